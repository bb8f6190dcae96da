import { readFileSync } from 'node:fs'
import { defineConfig } from 'vitepress'
import { data, made, neighbours, pagePath, pairName, read, root, two } from '../lib/repo.mjs'
import { repository, slugify } from '../lib/markdown.mjs'
import { themes, useClasses } from '../lib/highlight.mjs'

useClasses(JSON.parse(readFileSync(`${made}/classes.json`, 'utf8')))

const base = process.env.SITE_BASE || '/'
const short = (s) => s.title.replace(/^Step (\d+): /, '$1 ')
const has = (file) => data.pages.includes(file)

const steps = data.steps.map((s) => ({ text: short(s), link: `/step/${two(s.number)}.html` }))
const diffs = neighbours.map((p) => ({
  text: p.from ? `${two(p.from)} → ${two(p.to)}` : `nothing → ${two(p.to)}`,
  link: `/diff/${pairName(p)}.html`
}))
const programs = data.steps.map((s) => ({
  text: `${two(s.number)} ${s.name.replace(/^step\d+-/, '')}`, link: `/code/${two(s.number)}.html`
}))
const solutions = data.steps
  .filter((s) => has(`docs/solutions/step${two(s.number)}.md`))
  .map((s) => ({ text: `Step ${two(s.number)}`, link: `/solutions/step${two(s.number)}.html` }))

/** The pages among these that there are. */
const pages = (list) =>
  Object.entries(list).filter(([file]) => has(file)).map(([file, text]) => ({
    text, link: `/${pagePath(file).replace(/\.md$/, '.html')}`
  }))

const begin = pages({ 'README.md': 'What this is', 'docs/start.md': 'Start here' })
const engine = pages({
  'docs/final.md': 'From step 09 to the engine', 'final/README.md': 'The engine',
  'docs/final/storage.md': 'Its storage', 'docs/final/network.md': 'Its networks',
  'docs/final/build.md': 'Building images', 'docs/final/api.md': 'The daemon',
  'docs/beyond.md': 'Beyond one machine'
})
const reference = pages({
  'docs/troubleshooting.md': 'When it does not work', 'docs/glossary.md': 'Glossary',
  'docs/articles.md': 'The articles', 'docs/vm.md': 'Virtual machines',
  'docs/workshop.md': 'Holding a workshop', 'docs/dependencies.md': 'Dependencies',
  'docs/benchmarks.md': 'Benchmarks', 'CONTRIBUTING.md': 'Contributing'
})
/** Pages that nobody has given a place. */
const placed = new Set([...begin, ...steps, ...engine, ...solutions, ...reference].map((i) => i.link))
for (const file of data.pages.filter((f) => /^(docs|final)\/(?!site\/|solutions\/)/.test(f))) {
  const link = `/${pagePath(file).replace(/\.md$/, '.html')}`
  const text = read(file).match(/^# (.*)$/m)?.[1] ?? file
  if (link !== '/diffs.html' && !placed.has(link)) reference.push({ text, link })
}
const compare = { text: 'Compare any two', link: '/compare.html' }

const sidebar = [
  { text: 'Begin', items: begin },
  { text: 'The steps', items: steps },
  { text: 'The engine', items: engine },
  { text: 'The diffs', collapsed: true, items: [...pages({ 'docs/diffs.md': 'All, with figures' }), ...diffs, compare] },
  { text: 'The programs', collapsed: true, items: programs },
  { text: 'Solutions', collapsed: true, items: solutions },
  { text: 'Reference', items: reference }
]

/** Sequences that a reader goes through; each page has the one before and the one after. */
const sequences = [[...begin, ...steps, ...engine, ...reference], diffs, programs, solutions]

function neighbour(page, by) {
  for (const s of sequences) {
    const at = s.findIndex((item) => item.link === page)
    if (at >= 0) return s[at + by] ?? false
  }
  return false
}

/**
 * The pages lie above node_modules, where Vite does not find Vue when it renders on the
 * server; Node does, from where the result lies.
 */
const vueOfTheServer = {
  name: 'vue-of-the-server',
  enforce: 'pre',
  resolveId: (id, importer, { ssr }) =>
    ssr && /^vue(\/server-renderer)?$/.test(id) ? { id, external: true } : undefined
}

/** A box in a box. */
const icon = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16" fill="none" stroke="#2b5fb0"
  stroke-width="2"><rect x="1" y="1" width="14" height="14"/><rect x="5" y="5" width="6" height="6"/></svg>`

export default defineConfig({
  base,
  lang: 'en',
  title: 'minidocker',
  description: 'Build your own Docker, one kernel feature at a time',
  srcDir: '../..',
  srcExclude: ['build/**', 'vendor/**', 'mine/**', '.*/**', 'docs/slides/**'],
  outDir: `${root}/build/site`,
  cacheDir: `${root}/build/site-cache`,
  rewrites: (file) => pagePath(file),
  lastUpdated: false,
  metaChunk: true,
  head: [
    ['link', { rel: 'icon', href: `data:image/svg+xml,${encodeURIComponent(icon)}` }],
    ['style', {}, readFileSync(`${made}/syntax.css`, 'utf8')]
  ],
  markdown: {
    theme: themes,
    anchor: { slugify },
    languageAlias: { mod: 'go' },
    config: (md) => repository(md, base)
  },
  transformPageData(page) {
    const link = `/${page.relativePath.replace(/\.md$/, '.html')}`
    const fm = page.frontmatter
    fm.prev ??= neighbour(link, -1)
    fm.next ??= neighbour(link, 1)
    const made = page.params
    if (!made) return
    page.title = made.title
    Object.assign(fm, { search: false, aside: false, pageClass: 'wide' })
  },
  themeConfig: {
    nav: [
      { text: 'Steps', link: steps[0].link, activeMatch: '^/step/' },
      { text: 'Diffs', link: '/diffs.html', activeMatch: '^/(diff|compare)' },
      { text: 'Engine', link: '/final.html', activeMatch: '^/(final|engine)' }
    ],
    sidebar,
    outline: [2, 3],
    externalLinkIcon: true,
    search: {
      provider: 'local',
      options: {
        _render(src, env, md) {
          const html = md.render(src, env)
          return env.frontmatter?.search === false ? '' : html
        }
      }
    }
  },
  vite: {
    plugins: [vueOfTheServer],
    publicDir: `${made}/public`,
    build: { chunkSizeWarningLimit: 4000 },
    server: { host: '127.0.0.1', watch: { ignored: ['**/build/**', '**/.git/**'] } }
  }
})
