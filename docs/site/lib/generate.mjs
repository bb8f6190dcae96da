// Makes what VitePress cannot: the pages of the diffs, of the programs and of other files
// that pages link to, with their colours, and what the browser compares any two steps from.
// It runs before VitePress, after "weave site".
import { createHash } from 'node:crypto'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { data, lines, made, neighbours, pairName, read, siteLink, two } from './repo.mjs'
import { classEntries, escape, highlight, languageOf, syntaxCSS } from './highlight.mjs'
import { fileHTML, figures, filesHTML } from './diff.mjs'

const base = process.env.SITE_BASE || '/'
const cache = new Map()

/** The lines of a file of the repository, as HTML. */
function html(file) {
  const text = read(file).replace(/\n$/, '')
  const lang = languageOf(file)
  const key = `${lang}\0${text}`
  if (!cache.has(key)) cache.set(key, highlight(text, lang))
  return cache.get(key)
}

const step = (n) => data.steps.find((s) => s.number === n)

/** The pages of the diffs of neighbours: what is in them is HTML. */
function diffPages() {
  return neighbours.map((pair) => {
    const to = step(pair.to)
    const refs = new Map(data.refs[`${to.name}/README.md`].map((r) => [r.id, r]))
    const lesson = `${base}step/${two(pair.to)}.html`
    const link = (c) =>
      c.ref && `<a class="why" href="${lesson}#${c.ref}">explained in “${escape(refs.get(c.ref).heading)}”</a>`
    const files = pair.files.map((f) =>
      fileHTML(f, f.old ? html(f.old) : [], f.new ? html(f.new) : [], link))
    const was = pair.from ? `step ${two(pair.from)}` : 'nothing'
    const title = `Diff: ${was} to step ${two(pair.to)}`
    const sum = (key) => pair.files.reduce((n, f) => n + f[key], 0)
    const content =
      `<div v-pre><h1 id="top" tabindex="-1">${title}</h1>` +
      `<p>What <a href="${lesson}">${escape(to.title)}</a> changes: ` +
      `${pair.files.length} files, ${figures({ added: sum('added'), removed: sum('removed') })}. ` +
      'Each change names the declaration it is in and links to the place in the lesson that explains it.</p>' +
      `${filesHTML(pair.files)}</div>\n\n<DiffView />\n\n<div v-pre class="diffs">${files.join('')}</div>`
    return { params: { pair: pairName(pair), title, from: pair.from, to: pair.to }, content }
  })
}

/** A file's lines with numbers that can be linked to. */
function listing(name, file) {
  const body = html(file).map((l, i) =>
    `<span class="l" id="${name}-L${i + 1}" data-n="${i + 1}">${l}</span>`).join('')
  return `<pre class="listing">${body}</pre>`
}

/** The pages of the steps' programs, each with all its files. */
function codePages() {
  return data.steps.map((s) => {
    const title = `Program ${two(s.number)}`
    const files = s.code.map((name) => {
      const file = `${s.name}/${name}`
      return `<h2 id="${name}" tabindex="-1" class="file"><a href="#${name}">${name}</a> ` +
        `<span class="figures">${lines(file).length} lines</span></h2>${listing(name, file)}`
    })
    const content =
      `<div v-pre><h1 id="top" tabindex="-1">${title}</h1><p>The whole program at the end of ` +
      `<a href="${base}step/${two(s.number)}.html">${escape(s.title)}</a>; in the repository, the folder ` +
      `<code>${s.name}</code>.</p>${files.join('')}</div>`
    return { params: { step: two(s.number), title, number: s.number }, content }
  })
}

/** The pages of other files and folders to which Markdown pages link. */
function filePages() {
  return Object.entries(data.linked).map(([file, within]) => {
    const item = (f) => {
      const link = siteLink('README.md', f)
      const name = escape(f.slice(file.length + 1))
      return `<li>${link ? `<a href="${base}${link.slice(1)}">${name}</a>` : name}</li>`
    }
    const body = within.length ? `<ul>${within.map(item).join('')}</ul>` : listing('line', file)
    const content = `<div v-pre><h1 id="top" tabindex="-1">${file}</h1>${body}</div>`
    return { params: { file, title: file }, content }
  })
}

/**
 * Writes what the comparison of any two steps reads: a file for each text, named after
 * what is in it, and one for each pair.
 */
function writeData(dir) {
  const names = new Map()
  const store = (file) => {
    if (!file) return ''
    if (!names.has(file)) {
      const text = JSON.stringify(html(file))
      const name = createHash('sha256').update(text).digest('hex').slice(0, 16)
      writeFileSync(`${dir}/${name}.json`, text)
      names.set(file, name)
    }
    return names.get(file)
  }
  for (const pair of data.pairs) {
    const files = pair.files.map((f) => ({ ...f, old: store(f.old), new: store(f.new) }))
    writeFileSync(`${dir}/${pairName(pair)}.json`, JSON.stringify({ ...pair, files }))
  }
}

rmSync(`${made}/public`, { recursive: true, force: true })
mkdirSync(`${made}/public/data`, { recursive: true })
writeData(`${made}/public/data`)
writeFileSync(`${made}/diff.json`, JSON.stringify(diffPages()))
writeFileSync(`${made}/code.json`, JSON.stringify(codePages()))
writeFileSync(`${made}/file.json`, JSON.stringify(filePages()))
writeFileSync(`${made}/syntax.css`, syntaxCSS())
writeFileSync(`${made}/classes.json`, JSON.stringify(classEntries()))
