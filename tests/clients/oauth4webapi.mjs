// oauth4webapi: strict, and itself certified as a client. It throws on any deviation of the server.

import * as oauth from 'oauth4webapi'
import { Browser, assert, check, finish, setting } from './lib.mjs'

const insecure = { [oauth.allowInsecureRequests]: true }
const issuer = new URL(setting.issuer)
const client = { client_id: setting.client.id }
const secret = oauth.ClientSecretBasic(setting.client.secret)

const server = await check('discovery', async () => {
  const response = await oauth.discoveryRequest(issuer, { algorithm: setting.discovery, ...insecure })
  return oauth.processDiscoveryResponse(issuer, response)
})

async function redeem(browser = new Browser(), { who = client, authentication = secret, scope = setting.scope } = {}) {
  const verifier = oauth.generateRandomCodeVerifier()
  const state = oauth.generateRandomState()
  const url = new URL(server.authorization_endpoint)
  for (const [name, value] of Object.entries({
    client_id: who.client_id,
    redirect_uri: setting.redirectUri,
    response_type: 'code',
    scope,
    resource: setting.resource,
    state,
    code_challenge: await oauth.calculatePKCECodeChallenge(verifier),
    code_challenge_method: 'S256',
  })) url.searchParams.set(name, value)
  const callback = await browser.authorize(url)
  const parameters = oauth.validateAuthResponse(server, who, callback, state)
  const response = await oauth.authorizationCodeGrantRequest(server, who, authentication, parameters, setting.redirectUri, verifier, insecure)
  const tokens = await oauth.processAuthorizationCodeResponse(server, who, response)
  return { tokens, callback, state }
}

const refresh = async (token) => {
  const response = await oauth.refreshTokenGrantRequest(server, client, secret, token, insecure)
  return oauth.processRefreshTokenResponse(server, client, response)
}

const introspect = async (token) => {
  const response = await oauth.introspectionRequest(server, client, secret, token, insecure)
  return oauth.processIntrospectionResponse(server, client, response)
}

const revoke = async (token) => oauth.processRevocationResponse(await oauth.revocationRequest(server, client, secret, token, insecure))

const validate = (token) => {
  const request = new Request(setting.resource, { headers: { authorization: `Bearer ${token}` } })
  return oauth.validateJwtAccessToken(server, request, setting.resource, insecure)
}

const first = await check('authorization_code', () => redeem())

await check('iss_altered_is_refused', async () => {
  for (const change of [(url) => url.searchParams.set('iss', 'https://evil.example'), (url) => url.searchParams.delete('iss')]) {
    const altered = new URL(first.callback)
    change(altered)
    assert.throws(() => oauth.validateAuthResponse(server, client, altered, first.state))
  }
})

await check('jwt_access_token', async () => {
  const claims = await validate(first.tokens.access_token)
  assert.equal(claims.client_id, client.client_id)
  assert.ok(claims.sub && claims.jti && claims.iat)
  assert.deepEqual(new Set(claims.scope.split(' ')), new Set(setting.scope.split(' ')))
})

await check('introspection', async () => {
  const told = await introspect(first.tokens.refresh_token)
  assert.equal(told.active, true)
  assert.equal(told.client_id, client.client_id)
})

await check('introspection_of_a_jwt', async () => {
  const told = await introspect(first.tokens.access_token)
  assert.equal(told.active, true)
  assert.equal(told.iss, setting.issuer)
})

await check('refresh', async () => {
  const second = await refresh(first.tokens.refresh_token)
  assert.notEqual(second.refresh_token, first.tokens.refresh_token)
  assert.notEqual(second.access_token, first.tokens.access_token)
  const third = await refresh(second.refresh_token)
  assert.notEqual(third.refresh_token, second.refresh_token)
  // The grandparent is no immediate predecessor: whoever shows it has stolen it, or lost to a thief.
  await assert.rejects(refresh(first.tokens.refresh_token), (error) => error.error === 'invalid_grant')
  await assert.rejects(refresh(third.refresh_token), (error) => error.error === 'invalid_grant')
})

await check('client_credentials', async () => {
  const parameters = new URLSearchParams({ scope: setting.scope, resource: setting.resource })
  const response = await oauth.clientCredentialsGrantRequest(server, client, secret, parameters, insecure)
  const tokens = await oauth.processClientCredentialsResponse(server, client, response)
  assert.equal(tokens.refresh_token, undefined)
  const claims = await validate(tokens.access_token)
  assert.equal(claims.client_id, client.client_id)
})

await check('revocation', async () => {
  const { tokens } = await redeem()
  await revoke(tokens.refresh_token)
  await assert.rejects(refresh(tokens.refresh_token), (error) => error.error === 'invalid_grant')
  assert.deepEqual(await introspect(tokens.refresh_token), { active: false })
  await revoke(tokens.refresh_token)
})

await check('revocation_of_a_jwt', async () => {
  const { tokens } = await redeem()
  await revoke(tokens.access_token)
  assert.deepEqual(await introspect(tokens.access_token), { active: false })
})

await check('public_client', async () => {
  const who = { client_id: setting.publicClient.id }
  const { tokens } = await redeem(new Browser(), { who, authentication: oauth.None() })
  const response = await oauth.refreshTokenGrantRequest(server, who, oauth.None(), tokens.refresh_token, insecure)
  const next = await oauth.processRefreshTokenResponse(server, who, response)
  assert.notEqual(next.refresh_token, tokens.refresh_token)
})

await check('one_session_serves_two_requests', async () => {
  const browser = new Browser()
  await redeem(browser)
  await redeem(browser)
})

finish()
