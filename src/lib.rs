//! Tollgate: API keys, tokens, scopes, limits and exact per-user usage for anything behind Envoy.
//!
//! # One request, door to door
//!
//! ```text
//! raw bytes --decode--> Request --find_route--> &Route --take_credential--> Credential --guard--> --prove--> Proof
//!    --[facts.find]--> --resolve--> Caller --authorise--> Permit --pin_version--> Pinned --prepare--> Prepared
//!    --[limits.take]--> --throttle--> Admission --meter--> Usage --ledger.add--> --decide--> Grant --encode--> bytes
//!         any room may leave with a Denial;  only an await can bring a Fault;  encode cannot fail
//! ```
//!
//! # One request to the issuer
//!
//! ```text
//! browser, client, program --listen.issuer--> frame --> judge (the gate's own rooms, or a session) --> Actor --> Reach
//! command line             --control socket---------------------------------------------------------> Operator
//!    --> read (fields, form) --> checks --> [sign, hash] --> one commit --> audit::note --> answer
//!         a commit that is refused: read again and judge anew;  whatever was made before it is dropped
//!
//! authorize --> sign_in --> consent --> GrantRecord: Pending(code) --> token/code --> Live --> token/refresh … --> Ended
//!    at the gate:  prove/handle or prove/token --> grant --> client, user, key --> resolve/grant --> Caller
//! ```
//!
//! # Words
//!
//! - *credential*: what the request showed. *key*: one kind of it, issued by us. *caller*: who it turned out to be.
//! - *permit*, *pinned*, *prepared*, *admission*: what passing a room yields; only that room can make it.
//! - *grant*: the allow at the end. It cannot be built without the whole way.
//! - *denial*: an answer, and it is no. *fault*: no answer; Envoy's failure mode applies to it alone.
//! - *actor*: who calls the issuer. *reach*: whose things it may see and change; the rest is not there.
//! - *grant record*: what somebody was allowed to do in somebody's name, and all tokens that came of it; it decides, they only name it.
//!   *handle*: a text that names a record and carries a MAC, so that codes and refresh tokens are stored nowhere. *ring*: what signs JWTs.
//!
//! # Who may use whom
//!
//! `model` <- (`store`, `config`, `jose`) <- `check` <- doors (`grpc`, `issuer`, `ops`) <- `app` <- `cli`; every arrow stands in
//! `tests/it/tidy.rs`, which reads the sources, so imports name one module per `use`. A room of `check` uses nouns, what the room before it
//! yielded, and of the shelf the contract alone. The corridor alone awaits: `check/mod.rs`, its look-ups in `find_facts`, and its short form
//! for our own doors in `identify_caller`. Wire crates stay in the doors (and `telemetry::traces` has one to reach its collector), and the
//! doors never meet. No room of `check` and no door names a concrete store: `app` opens one, `tasks` follow what is shared, `secrets` seal it.
//!
//! Rooms that the first plan did not have, and why:
//!
//! - `secrets`: peppers, wrapping, random bytes. Keys, the signing ring and the resource API all need them, and none owns them.
//! - `ops`: the operator's door (health, metrics, counts, published keys). It shares nothing with Envoy's door but the counts.
//! - `listen`: sockets, TLS with renewal, accepting and draining, once for all doors.
//! - `outbound`: what everything that we ask of others by HTTP keeps to; the key sets' task and the issuer's federation both do.
//! - `recording`: requests written down without their secrets, and judged again under other rules (`check/rehearse.rs`).
//! - `stats`: the contract by which two doors read the counts without knowing who keeps them.
//!
//! # The issuer's rooms
//!
//! - `accounts`, `users`, `sessions`, `passwords`, `pages`: people, what they hold, where they are signed in, and what they see.
//! - `oauth`: `authorize` and `consent` lead to a code, `token` to tokens, `revoke`, `introspect` look after them; `clients` is who asks.
//! - `federation`: sign-in elsewhere, in which we are the client. `compat`: other systems' spellings of all this; they decide nothing.
//! - `keys`, `rotate`, `import`, `key_tokens`, `sign_in_tokens`, `usage`, `stats`, `ring`, `explain`: the rest of what is asked for.
//! - `checks`, `tickets`: what guards a step, and what leads from one to the next.
//! - `callers`, `actor`, `input`, `once`, `parameters`, `names`, `views`, `problem`, `openapi`: how anything is asked for and answered.
//! - `audit`: what was done, noted after its commit. `events`: the same for whoever counts.
//!
//! The issuer's guards are lists of named checks, so that a test can leave one out and show what then gets through.
//!
//! # The shelf's two engines
//!
//! `store::embedded` is one redb file in one process; `store::shared` is Redis, with a link of its own (`store/shared/link`), records
//! and their change log, facts under a lease, buckets and counts. What a sidecar counts lies in its own ledger and history first
//! (`usage`), with either engine; `tasks::publish_usage` tells the shared store of it. `app::engine` is where the two part.
//!
//! # Reading order
//!
//! `model/request.rs`, then `check/mod.rs` and its rooms in order, then `grpc/encode.rs`. Of the issuer: `model/handle.rs` and
//! `model/grant.rs`, then `issuer/mod.rs`, `issuer/oauth/authorize/mod.rs`, `issuer/oauth/token/code.rs` and `refresh.rs`, then
//! `check/resolve/grant.rs`.

pub mod model;

pub mod clock;

pub mod secrets;

pub mod jose;

pub mod config;

pub mod store;

pub mod usage;

pub mod check;

pub mod tasks;

pub mod stats;

pub mod telemetry;

pub mod recording;

pub mod listen;

pub mod outbound;

pub mod grpc;

pub mod issuer;

pub mod ops;

pub mod app;

pub mod cli;
