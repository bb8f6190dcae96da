// The site as a reader meets it: every page in a real browser. Run by "make site-test".
//
// What is expected comes from the repository, by git and plain reading, and not from what
// the site is made from.
import { after, afterEach, before, describe, test } from 'node:test'
import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'
import { chromium } from 'playwright-core'

const root = fileURLToPath(new URL('../../../', import.meta.url)).replace(/\/$/, '')
const site = `${root}/build/site`
const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')
const steps = readdirSync(root).filter((name) => /^step\d\d-/.test(name)).sort()
const two = (n) => String(n).padStart(2, '0')

const htmlFiles = (dir, within = '') =>
  readdirSync(`${dir}/${within}`).flatMap((name) => {
    const file = within ? `${within}/${name}` : name
    if (statSync(`${dir}/${file}`).isDirectory()) return htmlFiles(dir, file)
    return file.endsWith('.html') ? [file] : []
  })
const pages = htmlFiles(site).filter((p) => p !== '404.html').sort()

let server
let browser
let origin

before(async () => {
  server = spawn(`${root}/build/bin/weave`, ['serve', '-addr', '127.0.0.1:0', site])
  origin = await new Promise((resolve, reject) => {
    server.stdout.once('data', (line) => resolve(String(line).match(/http:\/\/[^/]+/)[0]))
    server.once('exit', (code) => reject(new Error(`weave serve: exit status ${code}`)))
  })
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    // Chromium's own sandbox does not start as root.
    args: process.getuid() === 0 ? ['--no-sandbox'] : []
  })
})

after(async () => {
  await browser?.close()
  server?.kill()
})

const opened = []

afterEach(async () => {
  for (const page of opened.splice(0)) await page.context().close()
})

/** A page that notes everything that goes wrong and every request that leaves the site. */
async function open(path, options = {}) {
  const page = await browser.newPage({ viewport: { width: 1280, height: 900 }, ...options })
  opened.push(page)
  page.setDefaultTimeout(120_000) // of a machine that has much else to do
  page.wrong = []
  page.on('console', (m) => {
    if (['error', 'warning'].includes(m.type())) page.wrong.push(`console: ${m.text()}`)
  })
  page.on('pageerror', (e) => page.wrong.push(`error: ${e.message}`))
  page.on('request', (r) => {
    if (!/^(data|blob):/.test(r.url()) && !r.url().startsWith(`${origin}/`)) {
      page.wrong.push(`leaves the site: ${r.url()}`)
    }
  })
  page.on('response', (r) => r.status() >= 400 && page.wrong.push(`${r.status()} ${r.url()}`))
  await page.goto(`${origin}/${path}`, { waitUntil: 'load' })
  // The title of this switch is set last.
  await page.waitForSelector('.VPSwitchAppearance[title^="Switch"]', { state: 'attached' })
  // Pictures are drawn one after the other.
  await page.waitForFunction(() =>
    [...document.querySelectorAll('figure.picture')].every((f) => f.querySelector('svg')))
  return page
}

/** How far the page can be scrolled sideways, in pixels. */
const overflow = (page) =>
  page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth)

/** What axe finds, of all its rules or of those given. */
async function accessible(page, only) {
  await page.evaluate(axe)
  const violations = await page.evaluate(async (only) => {
    // Of lines of code there are thousands alike.
    for (const l of document.querySelectorAll('.diffs .l:nth-child(n+40), .listing .l:nth-child(n+40)')) l.remove()
    const found = await window.axe.run(
      // Mermaid's drawings are described by the text around them.
      { exclude: ['figure.picture svg'] }, { resultTypes: ['violations'], ...(only && { runOnly: only }) })
    return found.violations
  }, only)
  return violations.map((v) => `${v.id}: ${v.help}: ${v.nodes.slice(0, 3).map((n) => n.html.slice(0, 160)).join(' | ')}`)
}

describe('every page', () => {
  const ids = new Map()
  const links = new Map()

  for (const path of pages) {
    test(path, async () => {
      const page = await open(path)
      const found = await page.evaluate(() => ({
        ids: [...document.querySelectorAll('[id]')].map((e) => e.id),
        links: [...document.querySelectorAll('a[href]')].map((a) => a.href),
        titles: document.querySelectorAll('h1').length
      }))
      ids.set(path, new Set(found.ids))
      links.set(path, new Set(found.links))
      assert.deepEqual(page.wrong, [])
      assert.equal(found.titles, 1, 'one h1')
      assert.equal(found.ids.length, new Set(found.ids).size,
        `ids twice: ${found.ids.filter((id, i) => found.ids.indexOf(id) !== i).slice(0, 5)}`)
      const wide = page.viewportSize()
      await page.setViewportSize({ width: 375, height: 800 })
      assert.equal(await overflow(page), 0, 'it scrolls sideways on a phone')
      await page.setViewportSize(wide)
      // Pages of code are all made alike, and there are a hundred: of those, each seventh.
      if (/^(code|file)\//.test(path) && pages.indexOf(path) % 7 > 0) return
      assert.deepEqual(await accessible(page), [])
      await page.emulateMedia({ colorScheme: 'dark' })
      await page.waitForFunction(() => document.documentElement.classList.contains('dark'))
      assert.deepEqual(await accessible(page, ['color-contrast']), [], 'in the dark')
      assert.deepEqual(page.wrong, [])
    })
  }

  test('leads nowhere but to what is there', () => {
    const dead = []
    for (const [from, hrefs] of links) {
      for (const href of hrefs) {
        const url = new URL(href)
        if (url.origin !== origin) continue
        const path = decodeURIComponent(url.pathname.slice(1)) || 'index.html'
        const to = path.endsWith('/') ? `${path}index.html` : path
        const anchor = decodeURIComponent(url.hash.slice(1))
        if (!existsSync(`${site}/${to}`)) dead.push(`${from}: ${href}`)
        else if (anchor && ids.has(to) && !ids.get(to).has(anchor)) dead.push(`${from}: ${href}`)
      }
    }
    assert.deepEqual(dead, [])
  })

  test('of the repository is on the site', () => {
    const markdown = execFileSync('git', ['ls-files', '*.md'], { cwd: root, encoding: 'utf8' })
    const headings = markdown.split('\n').filter((f) => /^(step\d\d|docs\/(?!site|slides)|README|final)/.test(f))
      .map((f) => readFileSync(`${root}/${f}`, 'utf8').match(/^# (.*)$/m)?.[1].replace(/[`*]/g, ''))
    const titles = pages.map((p) =>
      readFileSync(`${site}/${p}`, 'utf8').match(/<h1[^>]*>(.*?)<\/h1>/s)?.[1]
        .replace(/<a class="header-anchor".*/s, '').replace(/<[^>]*>/g, '').replace(/&amp;/g, '&').trim())
    assert.deepEqual(headings.filter((h) => h && !titles.includes(h)), [])
  })
})

/** What a page shows of a diff, file by file: all its lines, folded or not. */
const shownDiff = (page) => page.evaluate(() =>
  [...document.querySelectorAll('.diffs h2.file')].map((h) => {
    const lines = (selector, number) =>
      [...h.nextElementSibling.querySelectorAll(selector)].map((l) => [Number(l.dataset[number]), l.textContent])
    return {
      name: h.id,
      old: lines('.old .l', 'o'),
      new: lines('.new .l', 'n'),
      removed: lines('.old del.l', 'o').map(([n]) => n),
      added: lines('.new ins.l', 'n').map(([n]) => n),
      unexplained: [...h.nextElementSibling.querySelectorAll('.head')].filter((x) => !x.querySelector('a.why')).length
    }
  }))

const fileLines = (file) =>
  existsSync(file) ? readFileSync(file, 'utf8').replace(/\n$/, '').split('\n').map((l, i) => [i + 1, l]) : []

/** The numbers of the lines that git says were removed and added. */
function gitDiff(before, after) {
  let out = ''
  try {
    execFileSync('git', ['diff', '--no-index', '--no-color', '--no-ext-diff', '--diff-algorithm=minimal', '-U0',
      existsSync(before) ? before : '/dev/null', existsSync(after) ? after : '/dev/null'], { encoding: 'utf8' })
  } catch (error) {
    if (error.status !== 1) throw error
    out = error.stdout
  }
  const changes = { removed: [], added: [] }
  for (const m of out.matchAll(/^@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@/gm)) {
    for (let i = 0; i < Number(m[2] ?? 1); i++) changes.removed.push(Number(m[1]) + i)
    for (let i = 0; i < Number(m[4] ?? 1); i++) changes.added.push(Number(m[3]) + i)
  }
  return changes
}

const code = (step) =>
  step ? readdirSync(`${root}/${step}`).filter((f) => f !== 'README.md' && !f.endsWith('_test.go')) : []

function checkDiff(shown, before, after) {
  const names = [...new Set([...code(before), ...code(after)])].sort()
  const differ = names.filter((name) => {
    const [a, b] = [before, after].map((s) => `${root}/${s}/${name}`)
    return !existsSync(a) || !existsSync(b) || readFileSync(a, 'utf8') !== readFileSync(b, 'utf8')
  })
  assert.deepEqual(shown.map((f) => f.name), differ)
  for (const f of shown) {
    const [a, b] = [before, after].map((s) => `${root}/${s}/${f.name}`)
    assert.deepEqual(f.old, fileLines(a), `${f.name} before`)
    assert.deepEqual(f.new, fileLines(b), `${f.name} after`)
    const { removed, added } = gitDiff(a, b)
    assert.deepEqual(f.removed, removed, `${f.name} removed`)
    assert.deepEqual(f.added, added, `${f.name} added`)
  }
}

describe('the diffs', () => {
  steps.forEach((step, i) => {
    test(`${two(i)}-${two(i + 1)} is the real one, and explained`, async () => {
      const page = await open(`diff/${two(i)}-${two(i + 1)}.html`)
      const shown = await shownDiff(page)
      checkDiff(shown, steps[i - 1] ?? '', step)
      assert.deepEqual(shown.map((f) => f.unexplained), shown.map(() => 0), 'changes without a link to the lesson')
    })
  })

  for (const [from, to] of [[1, 9], [2, 6], [0, 3], [4, 5]]) {
    test(`${from} and ${to} are compared in the browser`, async () => {
      const page = await open(`compare.html?from=${two(from)}&to=${two(to)}`)
      await page.waitForSelector('.diffs h2.file')
      checkDiff(await shownDiff(page), steps[from - 1] ?? '', steps[to - 1])
      assert.deepEqual(page.wrong, [])
    })
  }

  test('two steps can be chosen', async () => {
    const page = await open('compare.html')
    await page.locator('.choose select').nth(1).selectOption({ index: 1 })
    await page.waitForFunction(() => document.querySelector('[role=status]').textContent.startsWith('5 '))
    assert.match(page.url(), /from=01&to=03/)
  })

  test('a change leads to its explanation, and back', async () => {
    const page = await open('diff/02-03.html')
    const head = page.locator('.head', { hasText: 'func containerInit' })
    const id = await head.getAttribute('id')
    await head.locator('a.why').click()
    await page.waitForURL(/step\/03\.html#in-go-init\.go-containerInit/)
    const ref = page.locator('[id="in-go-init.go-containerInit"]')
    assert.ok(await ref.isVisible())
    await ref.getByText('in the diff').click()
    await page.waitForURL(new RegExp(`diff/02-03\\.html#${id}`))
  })

  test('side by side on a desk, one below the other on a phone', async () => {
    for (const [width, beside] of [[1280, true], [375, false]]) {
      const page = await open('diff/05-06.html', { viewport: { width, height: 800 } })
      const boxes = await page.evaluate(() => {
        const part = document.querySelector('.diff.changed .part.both')
        return ['.old', '.new'].map((s) => part.querySelector(s).getBoundingClientRect().toJSON())
      })
      assert.equal(boxes[0].top === boxes[1].top, beside, `at ${width} px`)
      assert.equal(await overflow(page), 0)
    }
  })

  test('unfold at a key, all at a click', async () => {
    const page = await open('diff/05-06.html')
    const fold = page.locator('details.fold').first()
    await fold.locator('summary').focus()
    await page.keyboard.press('Enter')
    assert.equal(await fold.getAttribute('open'), '')
    await page.getByLabel('unfold all').check()
    assert.equal(await page.locator('details.fold:not([open])').count(), 0)
    await page.getByLabel('one below the other').check()
    assert.equal(await page.locator('.part.same .old >> visible=true').count(), 0)
  })
})

describe('the program', () => {
  steps.forEach((step, i) => {
    test(`of ${step} is whole`, async () => {
      const page = await open(`code/${two(i + 1)}.html`)
      const files = await page.evaluate(() => [...document.querySelectorAll('h2.file')].map((h) =>
        [h.id, [...h.nextElementSibling.querySelectorAll('.l')].map((l) => l.textContent)]))
      assert.deepEqual(files, code(step).map((name) => [name, fileLines(`${root}/${step}/${name}`).map((l) => l[1])]))
    })
  })
})

test('copying a session copies its commands', async () => {
  const context = await browser.newContext({ permissions: ['clipboard-read', 'clipboard-write'] })
  const page = await context.newPage()
  await page.goto(`${origin}/step/03.html`, { waitUntil: 'networkidle' })
  const block = page.locator('.language-console').first()
  await block.hover()
  await block.locator('button.copy').click()
  const text = await page.evaluate(() => navigator.clipboard.readText())
  assert.match(text, /^unshare --pid sh -c [^\n]*\nunshare --pid --fork sh [^\n]*\n$/)
  await context.close()
})

describe('the search', () => {
  for (const [words, page] of [['pivot_root', 'step/04.html'], ['masquerade', 'step/08.html'], ['whiteout', 'step/07.html']]) {
    test(`finds ${words}`, async () => {
      const p = await open('start.html')
      await p.keyboard.press('Control+k')
      await p.locator('.VPLocalSearchBox input').fill(words)
      await p.waitForSelector('.VPLocalSearchBox .result')
      const found = await p.$$eval('.VPLocalSearchBox .result', (all) => all.map((a) => a.getAttribute('href')))
      assert.ok(found.some((href) => href.includes(page)), `${page} is not among ${found}`)
      await p.keyboard.press('Enter')
      await p.waitForURL((url) => url.pathname !== '/start.html')
      assert.deepEqual(p.wrong, [])
    })
  }
})

describe('the look', () => {
  test('light and dark: pictures follow', async () => {
    const page = await open('step/03.html', { colorScheme: 'light' })
    const drawn = () => page.$eval('figure.picture svg', (svg) => svg.outerHTML)
    const light = await drawn()
    await page.locator('.VPNavBar .VPSwitchAppearance').first().click()
    await page.waitForFunction((was) => document.querySelector('figure.picture svg').outerHTML !== was, light)
  })

  test('on paper there is only the text', async () => {
    const page = await open('diff/02-03.html')
    await page.emulateMedia({ media: 'print' })
    for (const s of ['.VPNav', '.VPSidebar', '.VPDocFooter', '.view']) {
      assert.equal(await page.locator(`${s} >> visible=true`).count(), 0, s)
    }
    const pdf = await page.pdf({ format: 'A4' })
    assert.ok(pdf.length > 10000)
  })
})
