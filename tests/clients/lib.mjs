// What the scripts share: named checks, and a browser that has cookies, forms and nothing else.

import http from 'node:http'
import https from 'node:https'
import { strict as assert } from 'node:assert'

export { assert }

const env = (name) => process.env[name] ?? assert.fail(`${name} must be set`)

/** Where the server is and who we are there. All of it comes from whoever starts the script. */
export const setting = {
  issuer: env('ISSUER'),
  /** `oauth2` (RFC 8414) or `oidc`. */
  discovery: process.env.DISCOVERY ?? 'oauth2',
  resource: env('RESOURCE'),
  scope: env('SCOPE'),
  redirectUri: env('REDIRECT_URI'),
  user: env('TEST_USER'),
  password: env('TEST_PASSWORD'),
  client: { id: env('CLIENT_ID'), secret: env('CLIENT_SECRET') },
  publicClient: { id: env('PUBLIC_CLIENT_ID') },
  otherClient: { id: env('OTHER_CLIENT_ID'), secret: env('OTHER_CLIENT_SECRET') },
  /** What a server is not asked for, by the names of checks. */
  skipped: new Set((process.env.SKIP ?? '').split(' ').filter(Boolean)),
}

let failures = 0

/** Runs one check; the names are what the test that starts the script looks for. */
export async function check(name, run) {
  if (setting.skipped.has(name)) {
    console.log(`unsupported ${name}`)
    return undefined
  }
  try {
    const result = await run()
    console.log(`ok ${name}`)
    return result
  } catch (error) {
    failures += 1
    const cause = error?.cause ? ` (${JSON.stringify(error.cause, Object.getOwnPropertyNames(Object(error.cause)))?.slice(0, 400)})` : ''
    console.log(`FAILED ${name}: ${error?.stack ?? error}${cause}`)
    return undefined
  }
}

/** Ends the script with what became of its checks. */
export function finish() {
  console.log(`${failures} failed`)
  process.exit(failures === 0 ? 0 : 1)
}

/** One request as it is, without following anything. */
export function send(url, { method = 'GET', headers = {}, body } = {}) {
  const target = new URL(url)
  const library = target.protocol === 'https:' ? https : http
  return new Promise((resolve, reject) => {
    const request = library.request(target, { method, headers: body === undefined ? headers : { ...headers, 'content-length': Buffer.byteLength(body) } })
    request.on('error', reject)
    request.on('response', (response) => {
      const pieces = []
      response.on('data', (piece) => pieces.push(piece))
      response.on('error', reject)
      response.on('end', () => {
        const text = Buffer.concat(pieces).toString('utf8')
        resolve({
          status: response.statusCode,
          headers: response.headers,
          text,
          json: () => JSON.parse(text),
        })
      })
    })
    request.end(body)
  })
}

const decode = (text) => text.replaceAll('&quot;', '"').replaceAll('&#34;', '"').replaceAll('&#39;', "'").replaceAll('&#x27;', "'").replaceAll('&lt;', '<').replaceAll('&gt;', '>').replaceAll('&#60;', '<').replaceAll('&#62;', '>').replaceAll('&#38;', '&').replaceAll('&amp;', '&')

const attribute = (tag, name) => {
  const found = new RegExp(`\\s${name}\\s*=\\s*("([^"]*)"|'([^']*)'|([^\\s>]+))`, 'i').exec(tag)
  return found ? decode(found[2] ?? found[3] ?? found[4]) : undefined
}

/** A browser without a script engine. */
export class Browser {
  cookies = new Map()

  async go(url, { method = 'GET', form } = {}) {
    const target = new URL(url)
    const headers = { accept: 'text/html', 'sec-fetch-site': 'same-origin', 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': 'document' }
    const sent = [...this.cookies].map(([name, value]) => `${name}=${value}`)
    if (sent.length > 0) headers.cookie = sent.join('; ')
    let body
    if (form) {
      body = new URLSearchParams(form).toString()
      headers['content-type'] = 'application/x-www-form-urlencoded'
      headers.origin = target.origin
    }
    const response = await send(target, { method, headers, body })
    for (const line of response.headers['set-cookie'] ?? []) {
      const [pair, ...rest] = line.split(';')
      const at = pair.indexOf('=')
      const gone = rest.some((part) => /^\s*max-age\s*=\s*0\s*$/i.test(part)) || rest.some((part) => /expires=Thu, 01 Jan 1970/i.test(part))
      if (gone || at === pair.length - 1) this.cookies.delete(pair.slice(0, at))
      else this.cookies.set(pair.slice(0, at), pair.slice(at + 1))
    }
    return { ...response, url: target }
  }

  /** The forms of a page: where each goes, and what it carries. */
  forms(page) {
    return [...page.text.matchAll(/<form\b[^>]*>[\s\S]*?<\/form>/gi)].map(([html]) => {
      const head = /<form\b[^>]*>/i.exec(html)[0]
      const fields = [...html.matchAll(/<input\b[^>]*>/gi)].map(([tag]) => ({
        name: attribute(tag, 'name'),
        type: attribute(tag, 'type') ?? 'text',
        value: attribute(tag, 'value') ?? '',
      }))
      const buttons = [...html.matchAll(/<button\b[^>]*>/gi)].map(([tag]) => ({ name: attribute(tag, 'name'), value: attribute(tag, 'value') ?? '' }))
      return {
        action: new URL(attribute(head, 'action') ?? page.url, page.url),
        method: (attribute(head, 'method') ?? 'get').toUpperCase(),
        fields: fields.filter((field) => field.name && !['submit', 'button', 'checkbox'].includes(field.type)),
        buttons,
      }
    })
  }

  submit(form, values = {}, button) {
    const sent = Object.fromEntries(form.fields.map((field) => [field.name, field.value]))
    Object.assign(sent, values)
    if (button?.name) sent[button.name] = button.value
    if (form.method === 'GET') return this.go(`${form.action.origin}${form.action.pathname}?${new URLSearchParams(sent)}`)
    return this.go(form.action, { method: 'POST', form: sent })
  }

  /** Signs in and consents wherever it is asked to, until it is sent to the redirect URI; gives that URL, or nothing for a refusal. */
  async authorize(url, { redirectUri = setting.redirectUri, approve = true, orPage = false } = {}) {
    let page = await this.go(url)
    for (let step = 0; step < 20; step += 1) {
      const location = page.headers.location
      if (location) {
        const target = new URL(location, page.url)
        if (target.href.startsWith(redirectUri)) return target
        page = await this.go(target)
        continue
      }
      if (orPage && page.status >= 400) return undefined
      assert.equal(page.status, 200, `${page.url}: ${page.status}\n${page.text.slice(0, 2000)}`)
      const forms = this.forms(page)
      const signIn = forms.find((form) => form.fields.some((field) => field.type === 'password'))
      if (signIn) {
        const values = {}
        for (const field of signIn.fields) {
          if (field.type === 'password') values[field.name] = setting.password
          else if (field.type !== 'hidden') values[field.name] = setting.user
        }
        page = await this.submit(signIn, values, signIn.buttons[0])
        continue
      }
      const wanted = approve ? /approve|allow|accept|yes/i : /deny|refuse|cancel|no\b/i
      const consent = forms.find((form) => form.buttons.some((button) => wanted.test(button.value))) ?? forms[0]
      assert.ok(consent, `${page.url}: neither a form nor a redirect\n${page.text.slice(0, 2000)}`)
      page = await this.submit(consent, {}, consent.buttons.find((button) => wanted.test(button.value)) ?? consent.buttons[0])
    }
    return assert.fail('never came back to the client')
  }
}
