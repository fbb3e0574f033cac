// A client that does everything wrong, one thing at a time: each must be refused.

import { createHash, randomBytes } from 'node:crypto'
import { Browser, assert, check, finish, send, setting } from './lib.mjs'

const path = setting.discovery === 'oauth2' ? '/.well-known/oauth-authorization-server' : '/.well-known/openid-configuration'
const server = (await send(new URL(path, setting.issuer))).json()

const makeVerifier = () => randomBytes(32).toString('base64url')
const challengeOf = (verifier) => createHash('sha256').update(verifier).digest('base64url')
const basic = ({ id, secret }) => `Basic ${Buffer.from(`${encodeURIComponent(id)}:${encodeURIComponent(secret)}`).toString('base64')}`

function authorizationUrl(changes = {}) {
  const verifier = makeVerifier()
  const parameters = {
    client_id: setting.client.id,
    redirect_uri: setting.redirectUri,
    response_type: 'code',
    scope: setting.scope,
    resource: setting.resource,
    state: 'hostile',
    code_challenge: challengeOf(verifier),
    code_challenge_method: 'S256',
    ...changes,
  }
  const given = Object.entries(parameters).filter(([, value]) => value !== undefined)
  return { url: `${server.authorization_endpoint}?${new URLSearchParams(given)}`, verifier }
}

async function code() {
  const { url, verifier } = authorizationUrl()
  const callback = await new Browser().authorize(url)
  return { code: callback.searchParams.get('code'), verifier }
}

function token(form, { client = setting.client, headers = {}, query = '' } = {}) {
  return send(`${server.token_endpoint}${query}`, {
    method: 'POST',
    headers: { 'content-type': 'application/x-www-form-urlencoded', ...(client ? { authorization: basic(client) } : {}), ...headers },
    body: typeof form === 'string' ? form : new URLSearchParams(form).toString(),
  })
}

const redemption = ({ code, verifier }, changes = {}) => ({
  grant_type: 'authorization_code',
  code,
  redirect_uri: setting.redirectUri,
  code_verifier: verifier,
  ...changes,
})

function refusal(response, ...errors) {
  assert.ok([400, 401].includes(response.status), `${response.status} ${response.text}`)
  assert.ok(errors.includes(response.json().error), response.text)
  assert.equal(response.json().access_token, undefined)
}

/** Where a bad request ends: a redirect with an error, or a page of the server's own. */
async function errorOf(changes) {
  const { url } = authorizationUrl(changes)
  // A server may want to know who asks before it sends anybody anywhere (RFC 9700 section 4.11.2).
  const location = await new Browser().authorize(url, { orPage: true })
  if (!location) return 'page'
  assert.equal(location.searchParams.get('code'), null)
  return location.searchParams.get('error') ?? new URLSearchParams(location.hash.slice(1)).get('error')
}

await check('no_challenge', async () => assert.equal(await errorOf({ code_challenge: undefined, code_challenge_method: undefined }), 'invalid_request'))
await check('plain_challenge', async () => assert.equal(await errorOf({ code_challenge_method: 'plain' }), 'invalid_request'))
await check('implicit', async () => assert.match(await errorOf({ response_type: 'token' }), /unsupported_response_type|unauthorized_client|page/))
await check('unknown_client', async () => assert.equal(await errorOf({ client_id: 'nobody' }), 'page'))
for (const [name, redirect] of Object.entries({
  another_path: `${setting.redirectUri}/x`,
  another_query: `${setting.redirectUri}?x=1`,
  another_host: 'https://evil.example/callback',
  user_information: setting.redirectUri.replace('://', '://u@'),
})) {
  await check(`redirect_${name}`, async () => assert.equal(await errorOf({ redirect_uri: redirect }), 'page'))
}

await check('code_used_twice', async () => {
  const got = await code()
  assert.equal((await token(redemption(got))).status, 200)
  refusal(await token(redemption(got)), 'invalid_grant')
})
await check('wrong_verifier', async () => refusal(await token(redemption(await code(), { code_verifier: makeVerifier() })), 'invalid_grant'))
await check('no_verifier', async () => {
  const form = redemption(await code())
  delete form.code_verifier
  refusal(await token(form), 'invalid_grant', 'invalid_request')
})
await check('code_of_another_client', async () => refusal(await token(redemption(await code()), { client: setting.otherClient }), 'invalid_grant'))
await check('changed_redirect_uri', async () => {
  refusal(await token(redemption(await code(), { redirect_uri: `${setting.redirectUri}/x` })), 'invalid_grant')
})
await check('wrong_secret', async () => {
  const response = await token({ grant_type: 'client_credentials' }, { client: { ...setting.client, secret: 'wrong' } })
  assert.equal(response.status, 401)
  assert.equal(response.json().error, 'invalid_client')
})
await check('no_secret', async () => refusal(await token({ grant_type: 'client_credentials', client_id: setting.client.id }, { client: null }), 'invalid_client'))
await check('password_grant', async () => {
  refusal(await token({ grant_type: 'password', username: setting.user, password: setting.password }), 'unsupported_grant_type', 'unauthorized_client')
})
await check('parameter_twice', async () => refusal(await token('grant_type=client_credentials&grant_type=client_credentials'), 'invalid_request'))
await check('json_body', async () => {
  const response = await token(JSON.stringify({ grant_type: 'client_credentials' }), { headers: { 'content-type': 'application/json' } })
  assert.ok([400, 415].includes(response.status), `${response.status} ${response.text}`)
})
await check('secret_in_the_query', async () => {
  const query = `?client_id=${setting.client.id}&client_secret=${encodeURIComponent(setting.client.secret)}`
  const response = await token({ grant_type: 'client_credentials' }, { client: null, query })
  assert.ok([400, 401].includes(response.status), `${response.status} ${response.text}`)
})
await check('get_token', async () => {
  const response = await send(`${server.token_endpoint}?grant_type=client_credentials`, { headers: { authorization: basic(setting.client) } })
  assert.ok([404, 405].includes(response.status), `${response.status}`)
})
await check('refresh_token_of_another_client', async () => {
  const got = (await token(redemption(await code()))).json()
  refusal(await token({ grant_type: 'refresh_token', refresh_token: got.refresh_token }, { client: setting.otherClient }), 'invalid_grant')
})
await check('wider_scope_on_refresh', async () => {
  const got = (await token(redemption(await code()))).json()
  const response = await token({ grant_type: 'refresh_token', refresh_token: got.refresh_token, scope: `${setting.scope} everything` })
  refusal(response, 'invalid_scope')
})
await check('introspection_without_a_client', async () => {
  const response = await send(server.introspection_endpoint, {
    method: 'POST',
    headers: { 'content-type': 'application/x-www-form-urlencoded' },
    body: 'token=x',
  })
  assert.ok([400, 401].includes(response.status), `${response.status}`)
})
await check('deny', async () => {
  const { url } = authorizationUrl({ prompt: 'consent' })
  const callback = await new Browser().authorize(url, { approve: false })
  assert.equal(callback.searchParams.get('error'), 'access_denied')
  assert.equal(callback.searchParams.get('state'), 'hostile')
  assert.equal(callback.searchParams.get('iss'), setting.issuer)
})

finish()
