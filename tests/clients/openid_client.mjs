// openid-client: the breadth of an ordinary relying party.

import * as client from 'openid-client'
import { Browser, assert, check, finish, setting } from './lib.mjs'

const config = await check('discovery', () =>
  client.discovery(new URL(setting.issuer), setting.client.id, setting.client.secret, client.ClientSecretBasic(setting.client.secret), {
    algorithm: setting.discovery,
    execute: [client.allowInsecureRequests],
  }),
)

const tokens = await check('authorization_code', async () => {
  const pkceCodeVerifier = client.randomPKCECodeVerifier()
  const expectedState = client.randomState()
  const url = client.buildAuthorizationUrl(config, {
    redirect_uri: setting.redirectUri,
    scope: setting.scope,
    resource: setting.resource,
    state: expectedState,
    code_challenge: await client.calculatePKCECodeChallenge(pkceCodeVerifier),
    code_challenge_method: 'S256',
  })
  const callback = await new Browser().authorize(url)
  return client.authorizationCodeGrant(config, callback, { pkceCodeVerifier, expectedState })
})

await check('refresh', async () => {
  const next = await client.refreshTokenGrant(config, tokens.refresh_token)
  assert.notEqual(next.refresh_token, tokens.refresh_token)
  assert.equal(next.token_type, 'bearer')
  tokens.next = next
})

await check('client_credentials', async () => {
  const own = await client.clientCredentialsGrant(config, { scope: setting.scope, resource: setting.resource })
  assert.equal(own.refresh_token, undefined)
  assert.ok(own.expiresIn() > 0)
})

await check('introspection', async () => {
  assert.equal((await client.tokenIntrospection(config, tokens.next.refresh_token)).active, true)
})

await check('revocation', async () => {
  await client.tokenRevocation(config, tokens.next.refresh_token)
  assert.equal((await client.tokenIntrospection(config, tokens.next.refresh_token)).active, false)
  await assert.rejects(client.refreshTokenGrant(config, tokens.next.refresh_token), (error) => error.error === 'invalid_grant')
})

finish()
