// How a diff looks, as HTML. It runs where the site is built, for neighbouring steps, and
// in the browser, for any two.
//
// A file is a sequence of parts: unchanged lines, the same on both sides, and changes, in
// which the old side has the deleted lines and the new side the added ones. Side by side
// the two are columns; one below the other, at the width of a phone, the old side of
// unchanged parts is not shown. Style sheets do that: the HTML is one. Code stands in pre,
// outside of which Vue's compiler takes blanks away.

const around = 3 // unchanged lines shown before and after a change
const leastFold = 4 // fewer are not worth a click

export const figures = (f) => `+${f.added} −${f.removed}`

export function state(f) {
  if (!f.old) return 'new'
  return f.new ? 'changed' : 'gone'
}

/** The id of the change on a diff's page. */
export const changeID = (name, c) => (c.added ? `${name}-L${c.new}` : `${name}-O${c.old}`)

const line = (tag, o, n, html) =>
  `<${tag} class="l"${o ? ` data-o="${o}"` : ''}${n ? ` data-n="${n}"` : ''}>${html}</${tag}>`

function same(oldLines, newLines, o, n, count) {
  let left = ''
  let right = ''
  for (let i = 0; i < count; i++) {
    left += line('span', o + i, 0, oldLines[o + i - 1])
    right += line('span', o + i, n + i, newLines[n + i - 1])
  }
  return `<div class="part same"><pre class="old">${left}</pre><pre class="new">${right}</pre></div>`
}

/** Unchanged lines, folded but for those beside a change. */
function unchanged(oldLines, newLines, o, n, count, first, last) {
  const before = first ? 0 : Math.min(around, count)
  const after = last ? 0 : Math.min(around, count - before)
  const fold = count - before - after
  if (fold < leastFold) return same(oldLines, newLines, o, n, count)
  const part = (from, many) => (many ? same(oldLines, newLines, o + from, n + from, many) : '')
  return (
    part(0, before) +
    `<details class="fold"><summary>${fold} unchanged lines</summary>${part(before, fold)}</details>` +
    part(before + fold, after)
  )
}

function change(f, c, oldLines, newLines, link) {
  let left = ''
  let right = ''
  for (let i = 0; i < c.removed; i++) left += line('del', c.old + i, 0, oldLines[c.old + i - 1])
  for (let i = 0; i < c.added; i++) right += line('ins', 0, c.new + i, newLines[c.new + i - 1])
  const id = changeID(f.name, c)
  const kind = c.removed ? (c.added ? 'both' : 'less') : 'more'
  return (
    `<div class="head" id="${id}"><a class="self" href="#${id}">${c.label}</a>${link(c) ?? ''}</div>` +
    `<div class="part ${kind}"><pre class="old">${left}</pre><pre class="new">${right}</pre></div>`
  )
}

/**
 * A file's diff. oldLines and newLines are the lines' HTML; link makes the HTML of the
 * link from a change to what explains it.
 */
export function fileHTML(f, oldLines, newLines, link) {
  let html = ''
  let o = 1
  let n = 1
  f.changes.forEach((c) => {
    if (c.old > o) html += unchanged(oldLines, newLines, o, n, c.old - o, o === 1, false)
    html += change(f, c, oldLines, newLines, link)
    o = c.old + c.removed
    n = c.new + c.added
  })
  const rest = oldLines.length + 1 - o
  if (rest > 0) html += unchanged(oldLines, newLines, o, n, rest, f.changes.length === 0, true)
  return (
    `<h2 id="${f.name}" tabindex="-1" class="file"><a href="#${f.name}">${f.name}</a> ` +
    `<span class="figures">${state(f)}, ${figures(f)}</span></h2>` +
    `<div class="diff ${state(f)}">${html}</div>`
  )
}

/** The table of a diff's files. */
export function filesHTML(files) {
  const rows = files.map(
    (f) =>
      `<tr><td><a href="#${f.name}"><code>${f.name}</code></a></td><td>${state(f)}</td>` +
      `<td class="number">+${f.added}</td><td class="number">−${f.removed}</td></tr>`
  )
  const sum = (key) => files.reduce((n, f) => n + f[key], 0)
  return (
    '<table class="files"><thead><tr><th scope="col">file</th><td></td>' +
    '<th scope="col" class="number">added</th><th scope="col" class="number">removed</th></tr></thead>' +
    `<tbody>${rows.join('')}</tbody><tfoot><tr><td>all</td><td></td>` +
    `<td class="number">+${sum('added')}</td><td class="number">−${sum('removed')}</td></tr></tfoot></table>`
  )
}
