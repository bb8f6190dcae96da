// What the repository's Markdown needs to be a page of the site: links to other files, a
// way from each quoted change to the diff, pictures, the colours of diffs.
import { posix as path } from 'node:path'
import { data, root, siteLink, two } from './repo.mjs'
import { changeID } from './diff.mjs'
import { escape, highlight } from './highlight.mjs'

/** The anchor of a heading, as code hosts make it: see slug in docs/weave/tree.go. */
export const slugify = (text) =>
  text.trim().toLowerCase().replace(/[^\p{L}\p{N}\p{M}_ -]/gu, '').replace(/ /g, '-')

const external = /^([a-z][a-z0-9+.-]*:|\/\/)/i

function rewriteLinks(token, from) {
  for (const t of token.children ?? []) {
    const href = t.type === 'link_open' && t.attrGet('href')
    if (!href || href.startsWith('#') || external.test(href)) continue
    const link = siteLink(from, decodeURI(href))
    if (!link) throw new Error(`${from}: the link ${href} leads to nothing on the site`)
    t.attrSet('href', link)
  }
}

const directive = /^\s*<!--\s*weave:\s*(code|diff)\s/

function refHTML(ref, base) {
  const pair = `${two(ref.step - 1)}-${two(ref.step)}`
  const files = data.pairs.find((p) => p.from === ref.step - 1 && p.to === ref.step).files
  const within = (c) =>
    ref.new ? c.new <= ref.new && ref.new < c.new + c.added
      : c.old <= ref.old && ref.old < c.old + c.removed
  const file = files.find((f) => f.name === ref.file)
  const to = changeID(ref.file, file.changes.find(within))
  return `<p class="ref" id="${ref.id}"><a href="${base}diff/${pair}.html#${to}">in the diff</a></p>\n`
}

/** A head of a table's column that says nothing is none. */
function emptyHeads(tokens) {
  tokens.forEach((t, i) => {
    if (t.type === 'th_open' && !tokens[i + 1].content) t.tag = tokens[i + 2].tag = 'td'
  })
}

/** A fenced diff: the code's own colours, and lines that say what they are. */
function diffFence(text) {
  const rows = text.replace(/\n$/, '').split('\n')
  const isCode = (row) => /^[ +-]/.test(row) && !/^(---|\+\+\+) /.test(row) && row !== ' …'
  const code = highlight(rows.map((r) => (isCode(r) ? r.slice(1) : '')).join('\n'), 'go')
  const out = rows.map((row, i) => {
    if (!isCode(row) && row) return `<span class="l note">${escape(row)}</span>`
    const tag = { '+': 'ins', '-': 'del' }[row[0]] ?? 'span'
    return `<${tag} class="l"><span class="sign">${row[0] ?? ' '}</span>${code[i]}</${tag}>`
  })
  return `<div class="language-diff" v-pre><pre tabindex="0" class="quoted"><code>${out.join('\n')}</code></pre></div>\n`
}

/** The plugin; base is where the site lies on its server. */
export function repository(md, base) {
  md.core.ruler.push('repository', (state) => {
    const file = state.env.realPath ?? state.env.path
    if (!file) return // a title alone
    const from = path.relative(root, file)
    emptyHeads(state.tokens)
    const refs = new Map((data.refs[from] ?? []).map((r) => [r.line, r]))
    for (const token of state.tokens) {
      if (token.type === 'inline') rewriteLinks(token, from)
      if (token.type !== 'html_block' || !directive.test(token.content)) continue
      const ref = refs.get(token.map[0] + 1)
      token.content = ref ? refHTML(ref, base) : ''
    }
  })
  const fence = md.renderer.rules.fence
  md.renderer.rules.fence = (tokens, i, options, env, self) => {
    const { info, content } = tokens[i]
    if (info === 'diff') return diffFence(content)
    if (info === 'mermaid') return `<Picture source="${encodeURIComponent(content)}" />\n`
    return fence(tokens, i, options, env, self)
  }
}

