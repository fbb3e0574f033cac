// The control: a certified server with the same clients, so that a check which fails there is known to be wrong.

import Provider from 'oidc-provider'
import { setting } from './lib.mjs'

const port = Number(new URL(setting.issuer).port)
const client = (id, secret, more = {}) => ({
  client_id: id,
  ...(secret ? { client_secret: secret, token_endpoint_auth_method: 'client_secret_basic' } : { token_endpoint_auth_method: 'none' }),
  redirect_uris: [setting.redirectUri],
  grant_types: ['authorization_code', 'refresh_token', ...(secret ? ['client_credentials'] : [])],
  response_types: ['code'],
  application_type: 'native',
  ...more,
})

const provider = new Provider(setting.issuer, {
  clients: [
    client(setting.client.id, setting.client.secret),
    client(setting.otherClient.id, setting.otherClient.secret),
    client(setting.publicClient.id),
  ],
  scopes: ['openid', 'offline_access', ...setting.scope.split(' ')],
  pkce: { required: () => true },
  rotateRefreshToken: true,
  issueRefreshToken: async () => true,
  ttl: { AccessToken: 600, AuthorizationCode: 60, ClientCredentials: 600, RefreshToken: 86_400, Session: 600, Grant: 86_400, Interaction: 600 },
  findAccount: (_context, id) => ({ accountId: id, claims: async () => ({ sub: id }) }),
  features: {
    clientCredentials: { enabled: true },
    introspection: { enabled: true },
    revocation: { enabled: true },
    devInteractions: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => setting.resource,
      useGrantedResource: () => true,
      getResourceServerInfo: () => ({ scope: setting.scope, audience: setting.resource, accessTokenFormat: process.env.FORM ?? 'jwt', accessTokenTTL: 600 }),
    },
  },
})
provider.listen(port, '127.0.0.1', () => console.log('listening'))
