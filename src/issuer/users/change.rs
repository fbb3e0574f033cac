//! `PATCH /v1/users/{id}`: what of a user and its account may be changed by whom, and what follows from it.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::LazyLock;

use axum::body::Body;
use axum::extract::Path;
use axum::extract::RawQuery;
use axum::extract::State;
use axum::extract::rejection::PathRejection;
use axum::http::HeaderMap;
use axum::response::Response;
use zeroize::Zeroizing;

use crate::issuer::IssuerState;
use crate::issuer::accounts::invitations::refuse_role;
use crate::issuer::accounts::issuance;
use crate::issuer::accounts::password;
use crate::issuer::accounts::reach;
use crate::issuer::accounts::shelf;
use crate::issuer::actor::ADMIN;
use crate::issuer::actor::Actor;
use crate::issuer::actor::Reach;
use crate::issuer::actor::USERS;
use crate::issuer::audit::Deed;
use crate::issuer::callers::Asker;
use crate::issuer::checks::Check;
use crate::issuer::checks::run;
use crate::issuer::input::Change;
use crate::issuer::input::Fields;
use crate::issuer::input::Value;
use crate::issuer::keys::ATTEMPTS;
use crate::issuer::names;
use crate::issuer::passwords;
use crate::issuer::problem::Code;
use crate::issuer::problem::Problem;
use crate::issuer::users::LOCAL;
use crate::issuer::users::RIGHTS;
use crate::issuer::users::find;
use crate::issuer::users::lookup::has_foreign_keys;
use crate::issuer::users::lookup::revision_of;
use crate::issuer::users::named;
use crate::issuer::users::no_such_user;
use crate::issuer::users::view::PersonView;
use crate::issuer::views::answer_change;
use crate::issuer::views::check_revision;
use crate::model::account::AccountRecord;
use crate::model::account::Phone;
use crate::model::account::Role;
use crate::model::caller::Subject;
use crate::model::grant::GrantEnd;
use crate::model::scope::Scope;
use crate::model::scope::ScopeSet;
use crate::model::time::Timestamp;
use crate::model::user::Rights;
use crate::model::user::UserRecord;
use crate::model::user::UserState;
use crate::store::Precondition;
use crate::store::RecordKey;
use crate::store::Write;
use crate::store::codec::decode_user;
use crate::store::codec::encode_user;

const VALID_FROM: &str = "must be \"now\" or a time such as \"2027-01-31T00:00:00Z\"";

pub(in crate::issuer) async fn change(
    State(state): State<IssuerState>,
    asker: Asker,
    id: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let (source, subject) = named(&state, id, query.as_deref())?;
    let actor = &asker.actor;
    let mut fields = Fields::read(&headers, body).await?;
    let now = state.clock.now();
    let reach = actor.reach(USERS)?;
    let (record, revision) = find_within(&state, &reach, &source, &subject).await?;
    reach::refuse_superior(&state, actor, &reach, &record).await?;
    check_revision(&headers, revision)?;
    let account = if &*source == LOCAL { shelf::find::<AccountRecord>(&state, subject.as_str()).await? } else { None };
    let (account, version) = account.unzip();
    let role = account.as_ref().map_or(Role::Member, |account| account.role);
    let mut draft = Draft { before: record.clone(), record, account: account.clone(), ends: None };
    let maker = reach::maker(&state, actor).await?;
    if !reach.is_operators() {
        fields.refuse(&["organization", "tier"], ADMIN)?;
    }
    if !reach.is_managers() {
        fields.refuse(&["role", "rights", "active", "valid_from"], USERS)?;
    }
    draft.take_user(&state, actor, &reach, &mut fields, now).await?;
    let new_password = draft.take_account(&state, actor, &reach, &mut fields, now).await?;
    let current = fields.optional("current_password", |value| names::text(value).map(str::to_owned), "must be a text")?;
    fields.finish()?;
    // Its own password whoever changes it must know already.
    let is_given_password = new_password.is_some() && actor.user() != Some(&subject);
    if is_given_password || draft.opens_more(role) {
        reach::refuse_bound(&state, actor, &reach).await?;
    }
    if let Some(new) = new_password {
        draft.set_password(&state, actor, (current, new), asker.address, now).await?;
    }
    let place = RecordKey::user(&source, subject.as_str());
    let mut preconditions = vec![Precondition::AtVersion(place.clone(), revision)];
    let mut writes = vec![Write::Put { key: place, bytes: encode_user(&draft.record), expires: None }];
    if let Some(account) = &draft.account {
        preconditions.push(version.map_or_else(|| shelf::absent(account), |version| shelf::at(account, version)));
        writes.push(shelf::put(account, None));
    }
    // Of whoever changes itself the one precondition is there already.
    preconditions.extend(maker.filter(|(user, _)| user.subject != subject || &*source != LOCAL).map(|(_, precondition)| precondition));
    let outcome = state.records.commit(preconditions, writes, now).await?;
    if !outcome.is_done() {
        return Err(Problem::changed_meanwhile());
    }
    tracing::info!(source = &*source, user = subject.as_str(), "user changed");
    let deed = if draft.ends == Some(GrantEnd::PasswordChanged) { Deed::PasswordChanged } else { Deed::UserChanged };
    asker.note_change(&state, deed, (&(&draft.before, account.as_ref()), &(&draft.record, draft.account.as_ref())), now).await;
    draft.follow(&state, &asker, now).await?;
    let revision = revision_of(&state, &draft.record).await;
    Ok(answer_change(&outcome, revision, PersonView::new(&draft.record, draft.account.as_ref(), revision)))
}

/// The user of this name. Whatever is out of reach is not there, and takes as long as what is not there.
pub(super) async fn find_within(state: &IssuerState, reach: &Reach, source: &str, subject: &Subject) -> Result<(UserRecord, u64), Problem> {
    let Some((record, revision)) = reach.sees(find(state, source, subject.as_str()).await)? else {
        let _as_long = std::hint::black_box(decode_user("local/nobody", &SAMPLE));
        return Err(no_such_user());
    };
    refuse_unreached(reach, &record)?;
    Ok((record, revision))
}

/// A record like any other, to be read where there is none.
static SAMPLE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let rights = ["orders:read", "orders:write", "files:read"].into_iter().filter_map(|scope| Scope::parse(scope).ok());
    let record = Subject::parse("nobody").ok().map(|subject| UserRecord {
        source: Arc::from(LOCAL),
        subject,
        organization: Some("org_00000000000000000000".into()),
        tier: None,
        rights: Rights::Only(Arc::new(ScopeSet::new(rights))),
        state: UserState::Active,
        disabled_by: None,
        valid_from: None,
        created: Timestamp::from_unix_seconds(0),
    });
    record.as_ref().map(encode_user).unwrap_or_default()
});

/// Whatever is out of reach is not there.
pub(super) fn refuse_unreached(reach: &Reach, record: &UserRecord) -> Result<(), Problem> {
    let local = (&*record.source == LOCAL).then_some(&record.subject);
    if reach.covers(local, record.organization.as_deref()) { Ok(()) } else { Err(no_such_user()) }
}

/// A user while it is being changed.
struct Draft {
    before: UserRecord,
    record: UserRecord,
    account: Option<AccountRecord>,
    /// Why what was opened before must end.
    ends: Option<GrantEnd>,
}

impl Draft {
    /// Whether the user may more than before, of whose account this was the role: also again, or by what was ended.
    fn opens_more(&self, role: Role) -> bool {
        let (record, before) = (&self.record, &self.before);
        !reach::is_within(&record.rights, &reach::held_by(before))
            || (role == Role::Member && self.account.as_ref().is_some_and(|account| account.role == Role::Admin))
            || (record.state, before.state) == (UserState::Active, UserState::Disabled)
            || before.valid_from.is_some_and(|before| record.valid_from.is_none_or(|begins| begins < before))
    }

    async fn take_user(
        &mut self,
        state: &IssuerState,
        actor: &Actor,
        reach: &Reach,
        fields: &mut Fields,
        now: Timestamp,
    ) -> Result<(), Problem> {
        let rules = state.rules.load_full();
        if !reach.is_managers() {
            return Ok(());
        }
        if reach.is_operators() {
            fields.change("organization", names::organization, names::SUBJECT)?.apply(&mut self.record.organization);
            let is_moved = self.record.organization != self.before.organization;
            let leaves_keys = is_moved && &*self.record.source == LOCAL && has_foreign_keys(state, &self.record).await?;
            run(&Move::CHECKS, &Move { leaves_keys })?;
            names::tier(fields, &rules)?.apply(&mut self.record.tier);
        }
        let rights = match fields.change("rights", names::scopes, RIGHTS)? {
            Change::Keep => None,
            Change::Clear => Some(Rights::Unlimited),
            Change::Set(scopes) => Some(Rights::Only(scopes)),
        };
        if let Some(rights) = rights {
            let maker = maker_of(state, self.account.as_ref()).await?;
            let grant = reach::Grant { rights: &rights, giver: actor, maker: maker.as_ref() };
            run(&reach::Grant::CHECKS, &grant).map_err(|issue| fields.complaint("rights", issue))?;
            self.record.rights = rights;
        }
        if let Some(active) = fields.optional("active", names::truth, names::TRUTH)? {
            self.record.disabled_by = reach.switch(active, self.record.disabled())?;
            self.record.state = if active { UserState::Active } else { UserState::Disabled };
            if !active {
                self.ends = Some(GrantEnd::Revoked);
            }
        }
        let read_begin = |value: &Value| if names::text(value) == Some("now") { Some(now) } else { names::instant(value) };
        let valid_from = fields.change("valid_from", read_begin, VALID_FROM)?;
        if matches!(&valid_from, Change::Set(begin) if *begin >= now) {
            self.ends = Some(GrantEnd::Revoked);
        }
        valid_from.apply(&mut self.record.valid_from);
        Ok(())
    }

    /// The new password, where there is one, is hashed last: everything else may still be wrong.
    async fn take_account(
        &mut self,
        state: &IssuerState,
        actor: &Actor,
        reach: &Reach,
        fields: &mut Fields,
        now: Timestamp,
    ) -> Result<Option<Zeroizing<String>>, Problem> {
        let role = if reach.is_managers() { fields.optional("role", names::role, names::ROLE)? } else { None };
        if let Some(role) = role {
            refuse_role(state, actor, reach, role).await?;
        }
        let text = |read: fn(&str) -> Option<Arc<str>>| move |value: &Value| read(names::text(value)?);
        let display_name = fields.change("display_name", text(names::plain_name), names::NAME)?;
        let email = fields.change("email", text(names::email), names::EMAIL)?;
        let phone = fields.change("phone", text(names::phone), names::PHONE)?;
        let password = fields.optional("password", |value| names::text(value).map(str::to_owned), "must be a text")?.map(Zeroizing::new);
        let is_touched = role.is_some()
            || password.is_some()
            || [&display_name, &email, &phone].into_iter().any(|change| !matches!(change, Change::Keep));
        if !is_touched {
            return Ok(None);
        }
        if &*self.record.source != LOCAL {
            return Err(Problem::new(Code::Conflict, "a user of another issuer has no account here"));
        }
        if let Some(password) = &password {
            passwords::check_new("password", password)?;
            refuse_unusual_name(&self.record.subject)?;
        }
        let account = self.account.get_or_insert_with(|| new_account(&self.record.subject, now));
        account.role = role.unwrap_or(account.role);
        display_name.apply(&mut account.display_name);
        if !matches!(email, Change::Keep) {
            account.email_verified = false;
        }
        email.apply(&mut account.email);
        match phone {
            Change::Keep => {}
            Change::Clear => account.phone = None,
            Change::Set(number) => account.phone = Some(Phone { number, verified: false }),
        }
        Ok(password)
    }

    async fn set_password(
        &mut self,
        state: &IssuerState,
        actor: &Actor,
        (current, new): (Option<String>, Zeroizing<String>),
        address: Option<IpAddr>,
        now: Timestamp,
    ) -> Result<(), Problem> {
        let settings = issuance(state)?.passwords;
        let Some(account) = &mut self.account else { return Ok(()) };
        if actor.user() == Some(&account.user) {
            password::prove_current(state, actor, account, current, address, now).await?;
        }
        account.password = Some(state.passwords.hash(settings, new.to_string()).await?);
        self.record.valid_from = Some(password::valid_from(now));
        self.ends = Some(GrantEnd::PasswordChanged);
        Ok(())
    }

    /// What must follow the commit. Asked again, the change does what is left of it.
    async fn follow(&self, state: &IssuerState, asker: &Asker, now: Timestamp) -> Result<(), Problem> {
        if &*self.record.source != LOCAL {
            return Ok(());
        }
        if let Some(why) = self.ends {
            password::end_everything(state, &self.record.subject, why, now).await?;
        }
        reduce_made_by(state, asker, &self.record, now).await
    }
}

/// Reduces every account that this user made, and those that they made, to what this user holds now.
async fn reduce_made_by(state: &IssuerState, asker: &Asker, maker: &UserRecord, now: Timestamp) -> Result<(), Problem> {
    let mut makers = vec![maker.clone()];
    let mut seen = vec![maker.subject.clone()];
    while let Some(maker) = makers.pop() {
        let Rights::Only(held) = &maker.rights else { continue };
        for (account, _version) in
            shelf::all::<AccountRecord>(state, "", |account| account.made_by.as_ref() == Some(&maker.subject)).await?
        {
            if seen.contains(&account.user) {
                continue;
            }
            seen.push(account.user.clone());
            for _attempt in 0..ATTEMPTS {
                let Some((before, revision)) = find(state, LOCAL, account.user.as_str()).await? else { break };
                let reduced = match &before.rights {
                    Rights::Unlimited => Arc::clone(held),
                    Rights::Only(scopes) => Arc::new(scopes.intersect(held)),
                };
                let made = UserRecord { rights: Rights::Only(reduced), ..before.clone() };
                if made.rights == before.rights {
                    makers.push(made);
                    break;
                }
                let place = RecordKey::user(LOCAL, made.subject.as_str());
                let write = Write::Put { key: place.clone(), bytes: encode_user(&made), expires: None };
                if state.records.commit(vec![Precondition::AtVersion(place, revision)], vec![write], now).await?.is_done() {
                    asker.note_change(state, Deed::UserChanged, (&(&before, None), &(&made, None)), now).await;
                    makers.push(made);
                    break;
                }
            }
        }
    }
    Ok(())
}

/// Whom an account never exceeds.
async fn maker_of(state: &IssuerState, account: Option<&AccountRecord>) -> Result<Option<UserRecord>, Problem> {
    let Some(maker) = account.and_then(|account| account.made_by.as_ref()) else { return Ok(None) };
    Ok(find(state, LOCAL, maker.as_str()).await?.map(|(maker, _version)| maker))
}

/// A user that is to be of another organisation.
pub(in crate::issuer) struct Move {
    leaves_keys: bool,
}

impl Move {
    pub(in crate::issuer) const CHECKS: [Check<Self, Problem>; 1] = [Check {
        name: "nobody keeps the keys of an organisation that they leave",
        run: |moved| {
            let issue = "cannot change while the user has keys of another organisation; revoke or delete them first";
            if moved.leaves_keys { Err(Problem::field("organization", issue)) } else { Ok(()) }
        },
    }];
}

/// An account of which nothing is known yet.
pub(super) fn new_account(user: &Subject, now: Timestamp) -> AccountRecord {
    AccountRecord {
        user: user.clone(),
        role: Role::Member,
        password: None,
        display_name: None,
        email: None,
        email_verified: false,
        phone: None,
        identities: Vec::new(),
        online: false,
        last_operation: None,
        made_by: None,
        invitation: None,
        created: now,
    }
}

/// Names are folded at a sign-in, so one that is not would never be found.
pub(super) fn refuse_unusual_name(user: &Subject) -> Result<(), Problem> {
    if names::account_name(user.as_str()).as_ref() == Some(user) {
        return Ok(());
    }
    Err(Problem::field("password", format!("cannot be given to a user whose id is no account's name: it {}", names::ACCOUNT_NAME)))
}
