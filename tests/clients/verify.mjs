// Two JOSE implementations that are not ours judge access tokens: one token a line on standard input.

import { createInterface } from 'node:readline'
import { createRemoteJWKSet, jwtVerify } from 'jose'
import * as oauth from 'oauth4webapi'

const issuer = process.env.ISSUER
const resource = process.env.RESOURCE
const insecure = { [oauth.allowInsecureRequests]: true }
const response = await oauth.discoveryRequest(new URL(issuer), { algorithm: 'oauth2', ...insecure })
const server = await oauth.processDiscoveryResponse(new URL(issuer), response)
const keys = createRemoteJWKSet(new URL(server.jwks_uri), { cooldownDuration: 0 })

let failures = 0
for await (const token of createInterface({ input: process.stdin })) {
  for (const [name, verify] of Object.entries({
    jose: () => jwtVerify(token, keys, { issuer, audience: resource, typ: 'at+jwt', algorithms: ['RS256', 'EdDSA'] }),
    oauth4webapi: () =>
      oauth.validateJwtAccessToken(server, new Request(resource, { headers: { authorization: `Bearer ${token}` } }), resource, insecure),
  })) {
    try {
      await verify()
      console.log(`ok ${name}`)
    } catch (error) {
      failures += 1
      console.log(`FAILED ${name}: ${error}`)
    }
  }
}
process.exit(failures === 0 ? 0 : 1)
