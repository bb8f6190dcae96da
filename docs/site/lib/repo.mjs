// The repository as the site sees it: what weave knows of it, and where on the site
// each of its files is.
import { readFileSync } from 'node:fs'
import { posix as path } from 'node:path'
import { fileURLToPath } from 'node:url'

export const root = fileURLToPath(new URL('../../../', import.meta.url)).replace(/\/$/, '')

/** Where the site's parts are made. */
export const made = `${root}/build/site-data`

/** What weave site prints: see siteData in docs/weave/site.go. */
export const data = JSON.parse(readFileSync(`${made}/weave.json`, 'utf8'))

export const two = (n) => String(n).padStart(2, '0')

export const read = (file) => readFileSync(`${root}/${file}`, 'utf8')

/** The lines of a file of the repository, without their ends. */
export const lines = (file) => read(file).replace(/\n$/, '').split('\n')

const steps = new Map(data.steps.map((s) => [s.name, s]))

/** The step in whose folder the file is. */
export const stepOf = (file) => steps.get(file.split('/')[0])

/** The steps' neighbours: the pairs whose diffs the lessons explain. */
export const neighbours = data.pairs.filter((p) => p.to === p.from + 1)

export const pairName = (pair) => `${two(pair.from)}-${two(pair.to)}`

/** Where on the site a Markdown file of the repository is. */
export function pagePath(file) {
  const fixed = { 'README.md': 'index.md', 'CONTRIBUTING.md': 'contributing.md' }
  if (fixed[file]) return fixed[file]
  const step = stepOf(file)
  if (step && file === `${step.name}/README.md`) return `step/${two(step.number)}.md`
  if (file === 'final/README.md') return 'engine.md'
  return file.replace(/^docs\/(site\/)?/, '').replace(/README\.md$/, 'index.md')
}

const pages = new Set(data.pages)

/**
 * Where on the site a link of the repository leads, as an absolute path with .html;
 * undefined if what it leads to is not on the site.
 */
export function siteLink(from, dest) {
  const [name, hash = ''] = dest.split('#')
  const file = name ? path.join(path.dirname(from), name).replace(/\/$/, '') : from
  const anchor = hash && `#${hash}`
  const page = [file, `${file}/README.md`].find((f) => pages.has(f))
  if (page) return `/${pagePath(page).replace(/\.md$/, '.html')}${anchor}`
  const step = stepOf(file)
  const inside = step && file.slice(step.name.length + 1)
  if (step && step.code.includes(inside)) {
    const place = /^L\d+/.test(hash) ? `${inside}-${hash.split('-')[0]}` : inside
    return `/code/${two(step.number)}.html#${place}`
  }
  if (file in data.linked) return `/file/${file}.html${anchor}`
}
