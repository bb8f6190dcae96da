import DefaultTheme from 'vitepress/theme-without-fonts'
import Compare from './Compare.vue'
import DiffView from './DiffView.vue'
import Layout from './Layout.vue'
import Picture from './Picture.vue'
import './site.css'

export default {
  extends: DefaultTheme,
  Layout,
  enhanceApp({ app }) {
    app.component('Compare', Compare)
    app.component('DiffView', DiffView)
    app.component('Picture', Picture)
  }
}
