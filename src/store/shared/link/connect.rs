//! One connection, from nothing to ready: stream, log-in, database, and the questions that show which server it is.

use redis::AsyncConnectionConfig;
use redis::ProtocolVersion;
use redis::RedisConnectionInfo;
use redis::Value;
use redis::aio::MultiplexedConnection;
use redis::aio::PubSub;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::task::JoinHandle;
use zeroize::Zeroizing;

use crate::store::shared::link::dial::Bounded;
use crate::store::shared::link::dial::Unfinished;
use crate::store::shared::link::dial::dial;
use crate::store::shared::link::findings::Finding;
use crate::store::shared::link::findings::Identity;
use crate::store::shared::link::findings::Info;
use crate::store::shared::link::findings::judge;
use crate::store::shared::link::findings::speechless;
use crate::store::shared::link::findings::unseen;
use crate::store::shared::link::trouble::Trouble;
use crate::store::shared::settings::Login;
use crate::store::shared::settings::Server;
use crate::store::shared::settings::Settings;

/// Commands that may wait in one connection's queue before callers have to wait to put theirs in.
const QUEUE: usize = 1_024;
/// The server's answer to a log-in is one short line.
const LINE_MAX: usize = 1_024;
/// Runs where scripts may run at all, whatever state the server's memory and replicas are in.
const TRIAL: &str = "#!lua flags=no-writes\nreturn 1";

/// A connection that is logged in.
pub(super) struct Opened {
    pub(super) connection: MultiplexedConnection,
    pub(super) driver: Driver,
    pub(super) unfinished: Unfinished,
}

/// The task that moves a connection's bytes: it ends with the connection, and the connection with this value.
#[derive(Debug)]
pub(super) struct Driver(JoinHandle<()>);

impl Driver {
    pub(super) async fn ended(&mut self) {
        // However it ended, it moves nothing any more.
        let _ = (&mut self.0).await;
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// To whom we speak, which decides how we log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    Store,
    Sentinel,
}

/// Connects and logs in. The caller bounds the time.
pub(super) async fn open(server: &Server, peer: Peer, settings: &Settings) -> Result<Opened, Trouble> {
    let (stream, unfinished) = enter(server, peer, settings).await?;
    let config = AsyncConnectionConfig::new().set_response_timeout(None).set_connection_timeout(None).set_pipeline_buffer_size(QUEUE);
    let (connection, driver) =
        MultiplexedConnection::new_with_config(&plain(peer, settings), stream, config).await.map_err(|error| greeting_error(&error))?;
    Ok(Opened { connection, driver: Driver(tokio::spawn(driver)), unfinished })
}

/// A connection that only listens to messages.
pub(super) async fn open_subscription(server: &Server, settings: &Settings) -> Result<(PubSub, Unfinished), Trouble> {
    let (stream, unfinished) = enter(server, Peer::Store, settings).await?;
    let subscription = PubSub::new(&plain(Peer::Store, settings), stream).await.map_err(|error| greeting_error(&error))?;
    Ok((subscription, unfinished))
}

/// The log-in is spoken here, so that the client library never holds a password that it could print.
fn plain(peer: Peer, settings: &Settings) -> RedisConnectionInfo {
    let info = RedisConnectionInfo::default().set_protocol(ProtocolVersion::RESP2).set_skip_set_lib_name();
    match peer {
        Peer::Store => info.set_db(settings.database),
        Peer::Sentinel => info,
    }
}

async fn enter(server: &Server, peer: Peer, settings: &Settings) -> Result<(Bounded, Unfinished), Trouble> {
    let (mut stream, unfinished) = dial(server, settings).await?;
    let login = match peer {
        Peer::Store => &settings.login,
        Peer::Sentinel => &settings.sentinel_login,
    };
    log_in(&mut stream, login).await?;
    Ok((stream, unfinished))
}

async fn log_in(stream: &mut Bounded, login: &Login) -> Result<(), Trouble> {
    let password = (login.password)().map_err(|why| format!("the password cannot be had: {why}"))?.map(Zeroizing::new);
    let mut command = redis::cmd("AUTH");
    match (&login.username, &password) {
        (None, None) => return Ok(()),
        (Some(username), password) => {
            command.arg(username).arg(password.as_ref().map_or(&[] as &[u8], |password| password.as_slice()));
        }
        (None, Some(password)) => {
            command.arg(password.as_slice());
        }
    }
    let packed = Zeroizing::new(command.get_packed_command());
    drop(command);
    stream.write_all(&packed).await.map_err(|error| silence(&error.to_string()))?;
    stream.flush().await.map_err(|error| silence(&error.to_string()))?;
    let mut line = Vec::new();
    while !line.ends_with(b"\n") {
        let byte = stream.read_u8().await.map_err(|error| silence(&error.to_string()))?;
        line.push(byte);
        if line.len() > LINE_MAX {
            return Err(Trouble::met("what answers is no Redis".to_owned()));
        }
    }
    if line.starts_with(b"+OK") { Ok(()) } else { Err(log_in_error(&line, login)) }
}

/// Only the code is taken from the answer: a server that does not know the command repeats its arguments.
fn log_in_error(line: &[u8], login: &Login) -> Trouble {
    let code = line.split(|byte| byte.is_ascii_whitespace()).next().unwrap_or_default();
    let who = login.username.as_deref().unwrap_or("default");
    match code {
        b"-WRONGPASS" => {
            let what = "WRONGPASS: it was reached, but the password of the user";
            Trouble::refused("WRONGPASS", format!("{what} `{who}` is wrong, or the user is disabled; set `username` and `password`"))
        }
        b"-NOPERM" => {
            Trouble::refused("NOPERM", format!("NOPERM: it was reached, but the user `{who}` may not log in; allow it with `+auth`"))
        }
        b"-LOADING" => Trouble::refused("LOADING", "LOADING: it is still loading its data".to_owned()),
        b"-ERR" => Trouble::refused("ERR", format!("ERR: it takes no log-in of the user `{who}`; is a password set there?")),
        _ => Trouble::met(format!("it refused the log-in of the user `{who}`")),
    }
}

pub(super) fn greeting_error(error: &redis::RedisError) -> Trouble {
    error.code().map_or_else(|| silence(&error.to_string()), |code| refused(code, error.detail().unwrap_or_default()))
}

/// Somebody takes the connection and does not speak with us.
fn silence(error: &str) -> Trouble {
    let what = "it was reached, but did not answer as Redis does";
    Trouble::met(format!("{what}: {}; if the port speaks TLS, the address begins with `rediss://`", shortened(error, 200)))
}

fn refused(code: &str, why: &str) -> Trouble {
    Trouble::refused(code, refusal(code, why))
}

/// What a server says about itself on a connection that is driven by somebody else, and what is to be said about that.
pub(super) async fn inquire(
    connection: &mut MultiplexedConnection,
    server: &Server,
    settings: &Settings,
) -> Result<(Option<Identity>, Vec<Finding>), Trouble> {
    let mut questions = redis::pipe();
    questions.cmd("INFO");
    questions.cmd("CONFIG").arg("GET").arg("save");
    questions.cmd("EVAL").arg(TRIAL).arg(0);
    questions.cmd("CLIENT").arg("SETNAME").arg("tollgate");
    let mut answers = connection.send_packed_commands(&questions, 0, 4).await.map_err(|error| greeting_error(&error))?.into_iter();
    let (info, save, trial) = (answers.next(), answers.next(), answers.next());
    let mut findings = Vec::new();
    let mut identity = None;
    match text(info) {
        Ok(info) => {
            let info = Info(&info);
            if let Some(why) = info.inability() {
                return Err(Trouble::met(why.to_owned()));
            }
            identity = Some(info.identity());
            findings = judge(server, &settings.mode, info, saved(save).as_deref());
        }
        Err((code, _)) if code == "NOPERM" => findings.push(unseen(server)),
        Err((code, why)) => return Err(refused(&code, &why)),
    }
    match outcome(trial) {
        Ok(_) => {}
        Err((code, _)) if code == "NOPERM" => findings.push(speechless(server)),
        Err((code, why)) => return Err(refused(&code, &why)),
    }
    Ok((identity, findings))
}

/// A short word on an error of the server, in which nothing of ours is repeated at length.
pub(super) fn refusal(code: &str, why: &str) -> String {
    match code {
        "NOAUTH" => "NOAUTH: it was reached, but wants a password; set `password` (and `username`)".to_owned(),
        "LOADING" => "LOADING: it is still loading its data".to_owned(),
        _ => format!("{}: {}", shortened(code, 32), shortened(why, 200)),
    }
}

/// At most so many characters.
pub(super) fn shortened(text: &str, length: usize) -> String {
    text.chars().filter(|character| !character.is_control()).take(length).collect()
}

fn outcome(answer: Option<Value>) -> Result<Value, (String, String)> {
    let value = answer.ok_or_else(|| ("ERR".to_owned(), "an answer is missing".to_owned()))?;
    value
        .extract_error()
        .map_err(|error| (error.code().unwrap_or("ERR").to_owned(), error.detail().map_or_else(|| error.to_string(), ToOwned::to_owned)))
}

fn text(answer: Option<Value>) -> Result<String, (String, String)> {
    redis::from_redis_value(outcome(answer)?).map_err(|_error| ("ERR".to_owned(), "what answers is no Redis".to_owned()))
}

fn saved(answer: Option<Value>) -> Option<String> {
    let pair: Vec<String> = redis::from_redis_value(outcome(answer).ok()?).ok()?;
    pair.into_iter().nth(1)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn no_answer_to_a_log_in_can_bring_the_password_into_an_error() {
        let login = Login { username: Some("app".to_owned()), password: Arc::new(|| Ok(Some(b"hunter2-secret".to_vec()))) };
        let lines: [&[u8]; 4] = [
            b"-ERR unknown command 'AUTH', with args beginning with: 'app' 'hunter2-secret'\r\n",
            b"-WRONGPASS hunter2-secret\r\n",
            b"-hunter2-secret\r\n",
            b"hunter2-secret\r\n",
        ];
        for line in lines {
            let error = log_in_error(line, &login).what;
            assert!(error.contains("app") && !error.contains("hunter2"), "{error}");
        }
        assert!(!format!("{login:?}").contains("hunter2"));
    }
}
