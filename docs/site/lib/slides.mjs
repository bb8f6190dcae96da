// Makes a deck of slides for each step, of the lesson's own sentences, pictures, sessions
// and diffs: build/slides/NN.md, from which Marp makes NN.html. Run by "make slides".
//
// A deck has at most ten slides; what the lesson says of a piece of code is in the notes.
import { mkdirSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { chromium } from 'playwright-core'
import { data, read, root, two } from './repo.mjs'

const most = 10
const lines = 17 // on a slide

const dir = `${root}/build/slides`
mkdirSync(dir, { recursive: true })

/** A lesson as sections, and each as blocks: text and fences. */
function parse(text) {
  const sections = [{ title: '', blocks: [] }]
  let fence = null
  for (const line of text.split('\n')) {
    const blocks = sections.at(-1).blocks
    if (fence) {
      if (line.startsWith(fence.mark) && !line.slice(fence.mark.length).trim()) {
        blocks.push(fence)
        fence = null
      } else fence.lines.push(line)
    } else if (/^`{3,}/.test(line)) {
      const [, mark, lang] = line.match(/^(`{3,})(\S*)/)
      fence = { mark, lang, lines: [] }
    } else if (line.startsWith('## ')) sections.push({ title: line.slice(3), blocks: [] })
    else if (line.startsWith('#')) blocks.push({ heading: line })
    else if (line.startsWith('<!--') || !line.trim()) blocks.push(null)
    else if (blocks.at(-1)?.text) blocks.at(-1).text += `\n${line}`
    else blocks.push({ text: line })
  }
  for (const s of sections) s.blocks = s.blocks.filter((b) => b)
  return sections
}

/** Text for a slide: links lead nowhere there, and a line's end is one that is seen. */
const plain = (text) =>
  text.replace(/\[([^\]]*)\]\([^)]*\)/g, '$1').replace(/\n(?!\s*([-*|]|\d+\.)\s)\s*/g, ' ')

const shorten = (all, n = lines) => (all.length > n ? [...all.slice(0, n - 1), '…'] : all)

/** The changed lines of a quoted diff and what is beside them. */
function essence(diff) {
  const keep = diff.map((_, i) =>
    /^@@/.test(diff[i]) || [-2, -1, 0, 1, 2].some((d) => /^[+-](?!--|\+\+)/.test(diff[i + d] ?? '')))
  const out = []
  diff.forEach((line, i) => {
    if (/^(---|\+\+\+) /.test(line)) return
    if (keep[i]) out.push(line)
    else if (out.at(-1) !== ' …') out.push(' …')
  })
  return out.at(-1) === ' …' ? out.slice(0, -1) : out
}

const fenced = (lang, all) => `\`\`\`${lang}\n${all.join('\n')}\n\`\`\``

const notes = (text) => (text ? `\n\n<!--\n${plain(text).replace(/--+>?/g, '–')}\n-->` : '')

/** What stands after a block, up to the next one. */
const textAfter = (blocks, i) => {
  const next = blocks.slice(i + 1)
  const end = next.findIndex((b) => b.text === undefined || b.text.startsWith('[`'))
  return next.slice(0, end < 0 ? undefined : end).map((b) => b.text).join('\n\n')
}

/** The sessions of a section that can be read on a slide, the first if none can. */
function sessions(section, many) {
  const all = (section?.blocks ?? []).map((b, i) => [b, i]).filter(([b]) => b.lang === 'console')
  const legible = all.filter(([b]) =>
    b.lines.length >= 3 && b.lines.length <= lines && b.lines.every((l) => l.length <= 110))
  return [...legible, ...all].slice(0, many).map(([b, i]) =>
    `# ${section.title}\n\n${fenced('console', shorten(b.lines))}` +
    notes([section.blocks[i - 1]?.text, textAfter(section.blocks, i)].filter(Boolean).join('\n\n')))
}

/** The quoted code of a lesson that is most worth a slide, in the lesson's order. */
function code(section, many) {
  const found = (section?.blocks ?? []).map((b, i) => ({ ...b, i, after: textAfter(section.blocks, i) }))
    .filter((b) => ['diff', 'go'].includes(b.lang))
    .map((b) => ({ ...b, shown: b.lang === 'diff' ? essence(b.lines) : b.lines }))
    .filter((b) => b.shown.length > 3 && !/^(import|package|\/\/go:build|@@ (package|imports|func main|type config) @@)/.test(b.shown[0]))
  // What has much to be said of it, and fits; a change rather than what is new.
  const fresh = (b) => (b.lang === 'go' ? b.shown : b.shown.filter((l) => /^[+-]/.test(l))).length
  const weight = (b) => (b.lang === 'diff' ? 6 : 0) + Math.min(15, b.after.length / 60) + Math.min(8, fresh(b)) - Math.max(0, b.shown.length - lines) / 3
  const best = [...found].sort((a, b) => weight(b) - weight(a)).slice(0, many)
  return found.filter((b) => best.includes(b)).map((b) => {
    const file = b.lang === 'diff' ? b.lines[1]?.replace(/^\+\+\+ [^/]*\//, '')
      : section.blocks[b.i - 1]?.text?.match(/^\[`([^`]+)`\]/)?.[1]
    return `# ${file ?? section.title}\n\n${fenced(b.lang, shorten(b.shown))}${notes(b.after)}`
  })
}

function list(section) {
  const text = section?.blocks.filter((b) => b.text).map((b) => plain(b.text)).join('\n\n')
  return text ? [`# ${section.title}\n\n${text}`] : []
}

function deck(s) {
  const sections = parse(read(`${s.name}/README.md`))
  const find = (title) => sections.find((x) => x.title === title)
  const head = [`<!-- _class: title -->\n\n# ${s.title}\n\n${plain(s.lead)}`]
  if (sections[0].blocks.some((b) => b.lang === 'mermaid')) {
    head.push(`# What the kernel holds\n\n![h:520](${two(s.number)}.svg)`)
  }
  head.push(...list(find('Predict')), ...sessions(find('By hand'), 1))
  const missing = list(find('What is missing')).map((t) => shorten(t.split('\n'), 14).join('\n'))
  const tail = [...sessions(find('Prove it'), 1), ...sessions(find('Break it'), 1), ...missing]
  const slides = [...head, ...code(find('In Go'), most - head.length - tail.length), ...tail]
  const settings = `---\nmarp: true\ntheme: minidocker\npaginate: true\ntitle: "${s.title}"\nfooter: minidocker, step ${two(s.number)}\n---\n\n`
  return settings + slides.slice(0, most).join('\n\n---\n\n') + '\n'
}

/** The first picture of each lesson, drawn by Mermaid in a browser without a network. */
async function drawPictures() {
  const mermaid = createRequire(import.meta.url).resolve('mermaid/dist/mermaid.min.js')
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: process.getuid() === 0 ? ['--no-sandbox'] : []
  })
  const page = await browser.newPage()
  await page.addScriptTag({ path: mermaid })
  for (const s of data.steps) {
    const picture = parse(read(`${s.name}/README.md`))[0].blocks.find((b) => b.lang === 'mermaid')
    if (!picture) continue
    const svg = await page.evaluate(async (source) => {
      window.mermaid.initialize({ startOnLoad: false, theme: 'neutral', htmlLabels: false, flowchart: { htmlLabels: false } })
      return (await window.mermaid.render('picture', source)).svg
    }, picture.lines.join('\n'))
    writeFileSync(`${dir}/${two(s.number)}.svg`, svg)
  }
  await browser.close()
}

for (const s of data.steps) writeFileSync(`${dir}/${two(s.number)}.md`, deck(s))
await drawPictures()
