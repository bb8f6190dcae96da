import { readFileSync } from 'node:fs'
import { made } from '../lib/repo.mjs'

export default { paths: () => JSON.parse(readFileSync(`${made}/code.json`, 'utf8')) }
