// The steps' names, for the browser.
import { data } from './repo.mjs'

export default { load: () => data.steps.map(({ number, title }) => ({ number, title })) }
