// Syntax colours for whole files, line by line. A token's colours are a class, the same
// for each pair of a light and a dark colour, so that pages of thousands of lines stay small.
import { createHighlighter, bundledLanguages } from 'shiki'

export const themes = { light: 'github-light-high-contrast', dark: 'github-dark-high-contrast' }

const languages = {
  go: 'go', mod: 'go', sh: 'sh', json: 'json', yaml: 'yaml', yml: 'yaml', md: 'markdown',
  c: 'c', Makefile: 'make', Vagrantfile: 'ruby', mjs: 'js'
}
const highlighter = await createHighlighter({
  themes: Object.values(themes),
  langs: [...new Set(Object.values(languages))].filter((l) => l in bundledLanguages)
})

export const languageOf = (file) =>
  languages[file.split('/').pop().split('.').pop()] ?? 'text'

export const escape = (text) =>
  text.replace(/[&<>"]/g, (c) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[c])

const classes = new Map()
let complete = false

/** What another process has named: the style sheet has these and no others. */
export function useClasses(entries) {
  for (const [key, name] of entries) classes.set(key, name)
  complete = true
}

export const classEntries = () => [...classes]

function classOf(token) {
  const key = `${token.variants.light.color} ${token.variants.dark.color}`
  if (!classes.has(key) && !complete) classes.set(key, `k${classes.size}`)
  return classes.get(key)
}

/** HTML for each line of a text. */
export function highlight(text, lang) {
  if (lang === 'text') return text.split('\n').map(escape)
  const plain = classOf(highlighter.codeToTokensWithThemes('x', { lang: 'text', themes })[0][0])
  return highlighter.codeToTokensWithThemes(text, { lang, themes }).map((tokens) => {
    let html = ''
    for (const t of tokens) {
      const c = classOf(t)
      const content = escape(t.content)
      html += !c || c === plain || !t.content.trim() ? content : `<i class="${c}">${content}</i>`
    }
    return html
  })
}

/** Comments are read on green and on red as well. */
const darker = { '#66707B': '#57606A' }

/** The style sheet for all that has been highlighted so far. */
export const syntaxCSS = () =>
  [...classes].map(([key, c]) => {
    const [light, dark] = key.split(' ')
    return `.${c}{color:${darker[light] ?? light}}.dark .${c}{color:${dark}}`
  }).join('\n') + '\n@media print{' + [...classes].map(([key, c]) =>
    `.dark .${c}{color:${key.split(' ')[0]}}`).join('') + '}\n'
