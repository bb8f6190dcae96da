// Slides without a network: Marp would fetch pictures for letters that it takes for emoji.
import { fileURLToPath } from 'node:url'

const build = fileURLToPath(new URL('../../build/slides', import.meta.url))

export default {
  inputDir: build,
  output: build,
  themeSet: fileURLToPath(new URL('slides.css', import.meta.url)),
  options: { emoji: { unicode: false, shortcode: false } }
}
