//! Signing up: everything that a new user comes with, in one commit.
//!
//! Without an invitation the user founds an organisation and is its admin; with one it becomes what the invitation says. Of any number
//! of sign-ups that want the same name, invitation or sign-in elsewhere at once, exactly one succeeds.

use std::net::IpAddr;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::issuer::IssuerState;
use crate::issuer::accounts::identities;
use crate::issuer::accounts::invitations;
use crate::issuer::accounts::issuance;
use crate::issuer::accounts::shelf;
use crate::issuer::accounts::trail;
use crate::issuer::accounts::trail::Done;
use crate::issuer::audit::Deed;
use crate::issuer::checks::Check;
use crate::issuer::checks::run;
use crate::issuer::events::KeyEvent;
use crate::issuer::events::KeyEventResult;
use crate::issuer::keys::ATTEMPTS;
use crate::issuer::keys::own_display;
use crate::issuer::names;
use crate::issuer::passwords;
use crate::issuer::problem::Code;
use crate::issuer::problem::Problem;
use crate::issuer::users;
use crate::model::account::AccountRecord;
use crate::model::account::LinkedIdentity;
use crate::model::account::OrganizationRecord;
use crate::model::account::Phone;
use crate::model::account::Role;
use crate::model::caller::Subject;
use crate::model::issuance::FirstKey;
use crate::model::issuance::Issuance;
use crate::model::issuance::PhoneRule;
use crate::model::issuance::SignUp;
use crate::model::key::KeyNotes;
use crate::model::key::KeyRecord;
use crate::model::key::KeySecret;
use crate::model::key::KeyState;
use crate::model::key_text::push_base62;
use crate::model::key_text::write_key;
use crate::model::scope::ScopeSet;
use crate::model::time::Timestamp;
use crate::model::user::Rights;
use crate::model::user::UserRecord;
use crate::model::user::UserState;
use crate::secrets::random_bytes;
use crate::store::Committed;
use crate::store::Precondition;
use crate::store::RecordKey;
use crate::store::Write;
use crate::store::codec::encode_key;
use crate::store::codec::encode_user;

/// What somebody says who wants an account.
#[derive(Clone, Default)]
pub struct NewAccount {
    pub name: String,
    /// None: it signs in elsewhere, or only its key is used.
    pub password: Option<String>,
    /// An invitation's handle.
    pub invitation: Option<String>,
    pub display_name: Option<String>,
    pub email: Option<String>,
    pub phone: Option<String>,
}

impl std::fmt::Debug for NewAccount {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("NewAccount").finish_non_exhaustive()
    }
}

/// What a provider of sign-ins says of somebody new, and what the person added.
#[derive(Clone, Debug, Default)]
pub struct Profile {
    /// None: a name is made up.
    pub name: Option<String>,
    pub invitation: Option<String>,
    pub display_name: Option<String>,
    pub email: Option<String>,
    /// Whether a provider that we trust for it said so.
    pub email_verified: bool,
    pub phone: Option<String>,
}

/// A new user.
#[derive(Debug)]
pub struct SignedUp {
    pub user: Subject,
    pub organization: Arc<str>,
    pub role: Role,
    /// The text of its first key, where one is made: the one place that has it.
    pub key: Option<Zeroizing<String>>,
}

/// Signs up by name and password, with no phone number asked for.
///
/// # Errors
/// 400 naming the field, 403 where sign-up is closed, 409 where the name is taken, 429 after too many from one address.
pub async fn sign_up(state: &IssuerState, new: NewAccount, address: Option<IpAddr>, now: Timestamp) -> Result<SignedUp, Problem> {
    sign_up_under(state, new, PhoneRule::Optional, address, now).await
}

/// Signs up by name and password, under this rule about phone numbers.
///
/// # Errors
/// Those of [`sign_up`].
pub async fn sign_up_under(
    state: &IssuerState,
    new: NewAccount,
    rule: PhoneRule,
    address: Option<IpAddr>,
    now: Timestamp,
) -> Result<SignedUp, Problem> {
    let issuance = issuance(state)?;
    let user = names::account_name(&new.name).ok_or_else(|| Problem::field("name", names::ACCOUNT_NAME))?;
    if let Some(password) = &new.password {
        passwords::check_new("password", password)?;
    }
    let mut draft = Draft {
        user,
        password: None,
        identity: None,
        invitation: new.invitation,
        display_name: read("display_name", new.display_name, names::plain_name, names::NAME)?,
        email: read("email", new.email, names::email, names::EMAIL)?,
        email_verified: false,
        phone: read("phone", new.phone, names::phone, names::PHONE)?,
    };
    draft.admit(&issuance, rule)?;
    state.passwords.guesses().charge("sign-up", address, issuance.passwords.per_address, now)?;
    if let Some(password) = new.password {
        // A name that is taken is not worth a hash.
        refuse_taken(state, &draft.user).await?;
        draft.password = Some(state.passwords.hash(issuance.passwords, password).await?);
    }
    commit(state, &issuance, &draft, address, now).await
}

/// Signs up somebody who has just signed in elsewhere, under this rule about phone numbers.
///
/// # Errors
/// Those of [`sign_up`]; 409 also where this sign-in opens another account already.
pub async fn sign_up_linked(
    state: &IssuerState,
    identity: LinkedIdentity,
    profile: Profile,
    rule: PhoneRule,
    address: Option<IpAddr>,
    now: Timestamp,
) -> Result<SignedUp, Problem> {
    let issuance = issuance(state)?;
    let user = match profile.name {
        Some(name) => names::account_name(&name).ok_or_else(|| Problem::field("name", names::ACCOUNT_NAME))?,
        None => made_up_name()?,
    };
    let email = profile.email.as_deref().and_then(names::email);
    let draft = Draft {
        user,
        password: None,
        identity: Some(identity),
        invitation: profile.invitation,
        // What a provider says is taken where it can be shown, and is no reason to refuse anybody.
        display_name: profile.display_name.as_deref().and_then(names::plain_name),
        email_verified: profile.email_verified && email.is_some(),
        email,
        phone: read("phone", profile.phone, names::phone, names::PHONE)?,
    };
    draft.admit(&issuance, rule)?;
    state.passwords.guesses().charge("sign-up", address, issuance.passwords.per_address, now)?;
    commit(state, &issuance, &draft, address, now).await
}

struct Draft {
    user: Subject,
    password: Option<Arc<str>>,
    identity: Option<LinkedIdentity>,
    invitation: Option<String>,
    display_name: Option<Arc<str>>,
    email: Option<Arc<str>>,
    email_verified: bool,
    phone: Option<Arc<str>>,
}

/// Somebody who wants an account, and under which rules.
struct Applicant {
    sign_up: SignUp,
    phone_rule: PhoneRule,
    is_invited: bool,
    has_phone: bool,
}

const ADMISSION: [Check<Applicant, Problem>; 3] = [
    Check { name: "sign-up is not closed", run: is_open },
    Check { name: "an invitation where one is needed", run: has_invitation },
    Check { name: "a founder's phone where it is required", run: has_phone },
];

fn is_open(applicant: &Applicant) -> Result<(), Problem> {
    match applicant.sign_up {
        SignUp::Open | SignUp::Invited => Ok(()),
        SignUp::Closed => Err(Problem::new(Code::Forbidden, "nobody can sign up here")),
    }
}

fn has_invitation(applicant: &Applicant) -> Result<(), Problem> {
    match applicant.sign_up {
        SignUp::Invited if !applicant.is_invited => Err(Problem::new(Code::Forbidden, "signing up needs an invitation here")),
        SignUp::Open | SignUp::Invited | SignUp::Closed => Ok(()),
    }
}

fn has_phone(applicant: &Applicant) -> Result<(), Problem> {
    if applicant.is_invited || applicant.has_phone || applicant.phone_rule != PhoneRule::Required {
        return Ok(());
    }
    Err(Problem::field("phone", format!("is required of an organisation's first user and {}", names::PHONE)))
}

impl Draft {
    fn admit(&self, issuance: &Issuance, phone_rule: PhoneRule) -> Result<(), Problem> {
        let (is_invited, has_phone) = (self.invitation.is_some(), self.phone.is_some());
        run(&ADMISSION, &Applicant { sign_up: issuance.sign_up, phone_rule, is_invited, has_phone })
    }
}

/// Where the new user belongs and what it holds there.
struct Place {
    organization: Arc<str>,
    role: Role,
    rights: Arc<ScopeSet>,
    tier: Option<Arc<str>>,
    invitation: Option<Arc<str>>,
    preconditions: Vec<Precondition>,
    writes: Vec<Write>,
}

async fn commit(
    state: &IssuerState,
    issuance: &Issuance,
    draft: &Draft,
    address: Option<IpAddr>,
    now: Timestamp,
) -> Result<SignedUp, Problem> {
    for _attempt in 0..ATTEMPTS {
        let place = match &draft.invitation {
            Some(shown) => invited(state, shown, draft, now).await?,
            None => founding(issuance, draft, now)?,
        };
        let user = UserRecord {
            source: Arc::from(users::LOCAL),
            subject: draft.user.clone(),
            organization: Some(Arc::clone(&place.organization)),
            tier: place.tier.clone(),
            rights: Rights::Only(Arc::clone(&place.rights)),
            state: UserState::Active,
            disabled_by: None,
            valid_from: None,
            created: now,
        };
        let account = draft.account(&place, now);
        let user_place = RecordKey::user(users::LOCAL, draft.user.as_str());
        // In this order: which of them did not hold says what is taken.
        let mut preconditions = vec![Precondition::Absent(user_place.clone()), shelf::absent(&account)];
        let mut writes = vec![Write::Put { key: user_place, bytes: encode_user(&user), expires: None }, shelf::put(&account, None)];
        if let Some(identity) = &draft.identity {
            let identity = identities::identity_record(identity, &draft.user);
            preconditions.push(shelf::absent(&identity));
            writes.push(shelf::put(&identity, None));
        }
        let key = issuance.first_key.as_ref().map(|first| first_key(state, first, &user, &place.rights, now)).transpose()?;
        if let Some((record, _text)) = &key {
            let key_place = RecordKey::key(record.id.as_str());
            preconditions.push(Precondition::Absent(key_place.clone()));
            writes.push(Write::Put { key: key_place, bytes: encode_key(record), expires: None });
        }
        preconditions.extend(place.preconditions);
        writes.extend(place.writes);
        match state.records.commit(preconditions, writes, now).await? {
            Committed::Done | Committed::Unconfirmed => {}
            Committed::Refused(0 | 1) => return Err(name_taken()),
            Committed::Refused(2) if draft.identity.is_some() => return Err(identities::taken()),
            Committed::Refused(_) => continue,
        }
        tracing::info!(user = draft.user.as_str(), organization = &*place.organization, role = place.role.as_str(), "user signed up");
        let is_founder = place.invitation.is_none();
        let signed_up = SignedUp { user: draft.user.clone(), organization: place.organization, role: place.role, key: None };
        tell(state, user, &signed_up, (is_founder, draft.identity.is_some()), key.as_ref().map(|(record, _text)| record), address, now)
            .await;
        return Ok(SignedUp { key: key.map(|(_record, text)| text), ..signed_up });
    }
    Err(Problem::changed_meanwhile())
}

impl Draft {
    fn account(&self, place: &Place, now: Timestamp) -> AccountRecord {
        AccountRecord {
            user: self.user.clone(),
            role: place.role,
            password: self.password.clone(),
            display_name: self.display_name.clone(),
            email: self.email.clone(),
            email_verified: self.email_verified,
            phone: self.phone.clone().map(|number| Phone { number, verified: false }),
            identities: self.identity.clone().into_iter().collect(),
            online: false,
            last_operation: None,
            made_by: None,
            invitation: place.invitation.clone(),
            created: now,
        }
    }
}

fn founding(issuance: &Issuance, draft: &Draft, now: Timestamp) -> Result<Place, Problem> {
    let organization = OrganizationRecord {
        id: organization_id()?,
        name: draft.display_name.clone().unwrap_or_else(|| Arc::from(draft.user.as_str())),
        tier: issuance.tier.clone(),
        founder: Some(draft.user.clone()),
        created: now,
    };
    Ok(Place {
        preconditions: vec![shelf::absent(&organization)],
        writes: vec![shelf::put(&organization, None)],
        organization: organization.id,
        role: Role::Admin,
        rights: Arc::clone(&issuance.admin_rights),
        tier: organization.tier,
        invitation: None,
    })
}

async fn invited(state: &IssuerState, shown: &str, draft: &Draft, now: Timestamp) -> Result<Place, Problem> {
    let standing = invitations::judge(state, shown, now).await?;
    let mut used = standing.record;
    used.accepted_by = Some(draft.user.clone());
    Ok(Place {
        // Kept until it would have ended, so that its maker sees who came by it.
        writes: vec![shelf::put(&used, Some(used.expires))],
        organization: used.organization,
        role: standing.role,
        rights: standing.rights,
        tier: standing.tier,
        invitation: Some(used.id),
        preconditions: standing.preconditions,
    })
}

fn first_key(
    state: &IssuerState,
    first: &FirstKey,
    user: &UserRecord,
    rights: &ScopeSet,
    now: Timestamp,
) -> Result<(KeyRecord, Zeroizing<String>), Problem> {
    let rules = state.rules.load_full();
    let secret = Zeroizing::new(random_bytes::<32>()?);
    let (id, text) = write_key(&rules.key_brand, first.environment, &random_bytes::<16>()?, &secret);
    let record = KeyRecord {
        display: own_display(&rules, first.environment, &id),
        id,
        name: Arc::clone(&first.name),
        user: user.subject.clone(),
        organization: user.organization.clone(),
        environment: first.environment,
        scopes: Arc::new(first.scopes.intersect(rights)),
        tier: None,
        rate_limit: None,
        pinned_version: None,
        secrets: vec![KeySecret { hash: state.peppers.hash(text.as_bytes()), retires: None }],
        state: KeyState::Active,
        created: now,
        not_before: None,
        expires: None,
        notes: KeyNotes::default(),
    };
    Ok((record, text))
}

async fn tell(
    state: &IssuerState,
    user: UserRecord,
    new: &SignedUp,
    (is_founder, is_linked): (bool, bool),
    key: Option<&KeyRecord>,
    address: Option<IpAddr>,
    now: Timestamp,
) {
    let actor = trail::themselves(user, now);
    let organization = Some(&*new.organization);
    let user = new.user.as_str();
    let mut deeds = vec![(Deed::UserCreated, user)];
    deeds.push(if is_founder { (Deed::OrganizationCreated, &*new.organization) } else { (Deed::InvitationAccepted, user) });
    deeds.extend(is_linked.then_some((Deed::IdentityLinked, user)));
    if let Some(key) = key {
        state.observer.happened(KeyEvent::Created, KeyEventResult::Success);
        deeds.push((Deed::KeyCreated, key.id.as_str()));
    }
    for (deed, subject) in deeds {
        trail::note(state, &actor, Done { deed, subject, organization, address }, now).await;
    }
}

async fn refuse_taken(state: &IssuerState, user: &Subject) -> Result<(), Problem> {
    match state.records.get(&RecordKey::user(users::LOCAL, user.as_str())).await? {
        Some(_) => Err(name_taken()),
        None => Ok(()),
    }
}

/// The name is another account's.
pub(in crate::issuer) fn name_taken() -> Problem {
    Problem::new(Code::Conflict, "this name is taken; choose another one")
}

fn read(
    field: &'static str,
    written: Option<String>,
    read: impl FnOnce(&str) -> Option<Arc<str>>,
    expected: &'static str,
) -> Result<Option<Arc<str>>, Problem> {
    // A form sends what was left empty as an empty text.
    let written = written.filter(|text| !text.is_empty());
    written.map(|text| read(&text).ok_or_else(|| Problem::field(field, expected))).transpose()
}

/// `org_` and 20 base62 characters.
pub(in crate::issuer) fn organization_id() -> Result<Arc<str>, Problem> {
    let mut text = "org_".to_owned();
    push_base62(&mut text, &mut random_bytes::<16>()?, 20);
    Ok(Arc::from(text))
}

fn made_up_name() -> Result<Subject, Problem> {
    let digits: String = random_bytes::<10>()?.iter().map(|byte| char::from(b'a' + byte % 26)).collect();
    Subject::parse(&format!("user-{digits}")).map_err(|_error| Problem::field("name", names::ACCOUNT_NAME))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock as _;
    use crate::issuer::checks::assert_each_is_needed;
    use crate::issuer::tests::Issuer;

    #[test]
    fn every_check_of_a_sign_up_holds_something_up() {
        let open = Applicant { sign_up: SignUp::Open, phone_rule: PhoneRule::Optional, is_invited: false, has_phone: false };
        let rows = [
            ("sign-up is not closed", Applicant { sign_up: SignUp::Closed, ..open }),
            ("sign-up is not closed", Applicant { sign_up: SignUp::Closed, is_invited: true, ..open }),
            ("an invitation where one is needed", Applicant { sign_up: SignUp::Invited, ..open }),
            ("a founder's phone where it is required", Applicant { phone_rule: PhoneRule::Required, ..open }),
        ];
        run(&ADMISSION, &open).unwrap();
        assert_each_is_needed(|| ADMISSION, &rows);
    }

    #[tokio::test]
    async fn the_step_behind_the_limit_of_sign_ups_knows_no_limit() {
        let issuer = Issuer::issuing(|issuance| issuance.passwords.per_address = 1);
        let (state, address, now) = (&issuer.state, Some(IpAddr::from([192, 0, 2, 1])), issuer.clock.now());
        let new = |name: &str| NewAccount { name: name.to_owned(), ..NewAccount::default() };
        sign_up(state, new("alice"), address, now).await.unwrap();
        assert_eq!(sign_up(state, new("bob"), address, now).await.unwrap_err().code, Code::TooManyRequests);
        let draft = Draft {
            user: names::account_name("bob").unwrap(),
            password: None,
            identity: None,
            invitation: None,
            display_name: None,
            email: None,
            email_verified: false,
            phone: None,
        };
        assert!(commit(state, &issuance(state).unwrap(), &draft, address, now).await.is_ok(), "nothing falls without the limit");
    }
}
