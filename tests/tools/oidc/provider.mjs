// A certified OpenID provider (oidc-provider) that stands in for Google or Microsoft. Its people sign in by themselves.
//
//   node provider.mjs '<settings as JSON>'
//
//   port          where it listens, on 127.0.0.1
//   client_id, client_secret, redirect_uri, authentication    the one client
//   tenant        set: a multi-tenant provider; its issuer is http://127.0.0.1:<port>/<tenant>/v2.0, its metadata's a template
//   iss           whether answers name their issuer (RFC 9207); default true
//
// What it is to do next is told by POST /control with a JSON object of any of these; each stays until told otherwise:
//
//   account       who signs in: { sub, ...claims }; null: nobody is signed in, and nobody signs in
//   session       false: forgets that somebody is signed in
//   token         members of the next ID tokens that are to be other than they are; null takes one out
//   algorithm     "none" or "HS256": how the next ID tokens are signed instead
//   redirect      extra parameters of the next redirects back, such as { "iss": "https://evil.example" }; null takes one out
//   rotate        true: a new signing key, and the old one is gone
//   delay         milliseconds before metadata and keys are answered
//   down          true: metadata and keys are answered by 503
//
// GET /control says how often each document was asked for, and which tokens were issued.

import { createServer } from 'node:http';
import { createHmac, createPrivateKey, createSign, generateKeyPairSync, randomUUID } from 'node:crypto';
import Provider from 'oidc-provider';

const settings = JSON.parse(process.argv[2]);
const root = `http://127.0.0.1:${settings.port}`;
const issuer = settings.tenant ? `${root}/${settings.tenant}/v2.0` : root;
const state = { account: { sub: 'alice' }, token: {}, algorithm: null, redirect: {}, delay: 0, down: false };
const asked = { metadata: 0, keys: 0, token: 0, issued: [] };

let key = newKey();

function newKey() {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  return { ...privateKey.export({ format: 'jwk' }), kid: randomUUID(), use: 'sig', alg: 'RS256' };
}

function newProvider() {
  const provider = new Provider(issuer, {
    clients: [{
      client_id: settings.client_id,
      client_secret: settings.client_secret,
      redirect_uris: [settings.redirect_uri],
      token_endpoint_auth_method: settings.authentication ?? 'client_secret_basic',
      grant_types: ['authorization_code'],
      response_types: ['code'],
    }],
    jwks: { keys: [key] },
    cookies: { keys: ['a key of no importance'] },
    conformIdTokenClaims: false,
    claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['name', 'tid', 'oid'] },
    pkce: { required: () => true },
    features: { devInteractions: { enabled: false } },
    findAccount: (_context, id) => ({ accountId: id, claims: () => ({ ...state.account, sub: id }) }),
    interactions: { url: (_context, interaction) => `${prefix()}/interaction/${interaction.uid}` },
    renderError: (context, out) => { context.type = 'json'; context.body = out; },
  });
  provider.proxy = true;
  return provider;
}

function prefix() {
  return new URL(issuer).pathname.replace(/\/$/, '');
}

let provider = newProvider();
let serve = provider.callback();

/** A person who clicks on "yes" at once, or one who is not there. */
async function interact(request, response) {
  const { prompt, params, session, grantId } = await provider.interactionDetails(request, response);
  if (!state.account) {
    return provider.interactionFinished(request, response, { error: 'access_denied' });
  }
  if (prompt.name === 'login') {
    return provider.interactionFinished(request, response, { login: { accountId: state.account.sub } });
  }
  const grant = (grantId && await provider.Grant.find(grantId)) ||
    new provider.Grant({ accountId: session.accountId, clientId: params.client_id });
  grant.addOIDCScope('openid profile email');
  return provider.interactionFinished(request, response, { consent: { grantId: await grant.save() } }, { mergeWithLastSubmission: true });
}

const encode = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');

/** The same token, with other members and properly signed. */
async function forge(token) {
  const [head, body] = token.split('.').slice(0, 2).map((part) => JSON.parse(Buffer.from(part, 'base64url')));
  for (const [name, value] of Object.entries(state.token)) {
    if (value === null) delete body[name]; else body[name] = value;
  }
  const header = { ...head, alg: state.algorithm ?? head.alg };
  const input = `${encode(header)}.${encode(body)}`;
  if (state.algorithm === 'none') return `${input}.`;
  if (state.algorithm === 'HS256') return `${input}.${createHmac('sha256', settings.client_secret).update(input).digest('base64url')}`;
  return `${input}.${createSign('sha256').update(input).sign(createPrivateKey({ key, format: 'jwk' }), 'base64url')}`;
}

function send(response, status, value, headers = {}) {
  response.writeHead(status, { 'content-type': 'application/json', ...headers });
  response.end(JSON.stringify(value));
}

async function body(request) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  return Buffer.concat(chunks).toString();
}

/** Catches what the provider answers, so that it can be changed. */
function caught(response, change) {
  const chunks = [];
  response.write = (chunk) => { chunks.push(Buffer.from(chunk)); return true; };
  const end = response.end.bind(response);
  response.end = (chunk) => {
    if (chunk) chunks.push(Buffer.from(chunk));
    change(Buffer.concat(chunks).toString()).then((text) => {
      response.setHeader('content-length', Buffer.byteLength(text));
      end(text);
    });
    return response;
  };
}

const server = createServer(async (request, response) => {
  const path = new URL(request.url, root).pathname;
  try {
    if (path === '/control') {
      if (request.method === 'GET') return send(response, 200, asked);
      const told = JSON.parse(await body(request));
      for (const name of ['account', 'token', 'algorithm', 'redirect', 'delay', 'down']) {
        if (name in told) state[name] = told[name];
      }
      if (told.rotate) key = newKey();
      if (told.rotate || told.session === false) {
        // Its memory goes with it: nobody is signed in any more.
        provider = newProvider();
        serve = provider.callback();
        }
      return send(response, 200, {});
    }
    const common = settings.tenant ? path.replace('/common/v2.0', `/${settings.tenant}/v2.0`) : path;
    const local = common.startsWith(prefix()) ? common.slice(prefix().length) || '/' : common;
    if (local === '/.well-known/openid-configuration' || local === '/jwks') {
      asked[local === '/jwks' ? 'keys' : 'metadata'] += 1;
      if (state.delay) await new Promise((done) => setTimeout(done, state.delay));
      if (state.down) return send(response, 503, { error: 'temporarily_unavailable' });
    }
    if (local === '/.well-known/openid-configuration') {
      caught(response, async (text) => {
        const metadata = JSON.parse(text);
        if (settings.tenant) metadata.issuer = `${root}/{tenantid}/v2.0`;
        if (settings.iss === false || settings.tenant) delete metadata.authorization_response_iss_parameter_supported;
        return JSON.stringify(metadata);
      });
    }
    if (local === '/token') {
      asked.token += 1;
      caught(response, async (text) => {
        const answer = JSON.parse(text);
        if (answer.id_token) answer.id_token = await forge(answer.id_token);
        if (answer.access_token) asked.issued.push(answer.access_token, answer.id_token);
        return JSON.stringify(answer);
      });
    }
    const setHeader = response.setHeader.bind(response);
    response.setHeader = (name, value) => {
      if (name.toLowerCase() === 'location' && String(value).startsWith(settings.redirect_uri)) {
        const target = new URL(value);
        if (settings.iss === false || settings.tenant) target.searchParams.delete('iss');
        for (const [extra, wanted] of Object.entries(state.redirect)) {
          if (wanted === null) target.searchParams.delete(extra); else target.searchParams.set(extra, wanted);
        }
        return setHeader(name, target.href);
      }
      return setHeader(name, value);
    };
    if (local.startsWith('/interaction/')) return await interact(request, response);
    request.originalUrl = request.url;
    request.baseUrl = prefix();
    request.url = local + new URL(request.url, root).search;
    return serve(request, response);
  } catch (error) {
    return send(response, 500, { error: String(error) });
  }
});

server.listen(settings.port, '127.0.0.1', () => process.stdout.write('ready\n'));
