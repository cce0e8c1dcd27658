//! The file of tokens, and the operator's own token.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use kube::Client;
use sluice_auth::{NewToken, Scope};

use crate::contract::TOKENS_FILE;
use crate::controller::error::{Error, Result};
use crate::controller::fetch::Live;
use crate::controller::owned_secret::{self, Wanted};
use crate::controller::plan::Plan;

/// The client that the operator is.
const CLIENT: &str = "sluice-operator";
/// Key of the operator's token in its Secret.
const TOKEN: &str = "token";
/// Key of the item of that token.
const ITEM: &str = "item.yaml";

/// Writes the Secret with the tokens of the user and that of the operator, which is returned. Without authentication it
/// does nothing: the Secrets of before stay until the resource is deleted, because pods that have not been replaced yet
/// mount them.
///
/// # Errors
/// [`Error::NameTaken`] or [`Error::Leftover`] for a Secret that is not ours, and [`Error::Api`].
pub async fn ensure(client: &Client, plan: &Plan, live: &Live) -> Result<Option<String>> {
    let Some(auth) = &plan.auth else { return Ok(None) };
    let name = plan.names.operator_token();
    let text = |key: &str| {
        let data = live.secrets.get(&name)?.data.as_ref()?.get(key)?;
        String::from_utf8(data.0.clone()).ok()
    };
    let (token, item) = match (text(TOKEN), text(ITEM)) {
        (Some(token), Some(item)) => (token, item),
        _ => new_token()?,
    };
    let content = with_item(&auth.tokens, &item)?;
    let bytes = |text: &str| ByteString(text.as_bytes().to_vec());
    let own = BTreeMap::from([(TOKEN.to_owned(), bytes(&token)), (ITEM.to_owned(), bytes(&item))]);
    let file = BTreeMap::from([(TOKENS_FILE.to_owned(), bytes(&content))]);
    for (name, values) in [(&name, own), (&auth.secret, file)] {
        let wanted = Wanted { name, labels: plan.names.common_labels(), type_: "Opaque", values };
        owned_secret::write(client, plan, live, wanted).await?;
    }
    Ok(Some(token))
}

fn new_token() -> Result<(String, String)> {
    let settings = NewToken { name: CLIENT.to_owned(), scopes: vec![Scope::Read], topics: Vec::new(), expires: None };
    settings.make().map_err(|error| Error::Unparsable(error.to_string()))
}

/// Returns the tokens of the user with one item more. Both have been checked.
fn with_item(tokens: &[u8], item: &str) -> Result<String> {
    let parse = |content: &[u8]| {
        let list = serde_yaml::from_slice::<Vec<serde_yaml::Value>>(content);
        list.map_err(|error| Error::Unparsable(error.to_string()))
    };
    let mut all = parse(tokens)?;
    all.extend(parse(item.as_bytes())?);
    serde_yaml::to_string(&all).map_err(|error| Error::Unparsable(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_has_the_tokens_of_the_user_and_that_of_the_operator() {
        let (token, item) = new_token().unwrap();
        assert!(token.starts_with("sluice_"), "{token}");
        let (_, other) = new_token().unwrap();
        let flow = other.replace("- name", "[{name").replace("\n  ", ", ").trim_end().to_owned() + "}]";
        for users in ["[]".to_owned(), other, flow] {
            let content = with_item(users.as_bytes(), &item).unwrap();
            sluice_auth::check_tokens(content.as_bytes()).unwrap();
            assert!(content.contains("name: sluice-operator"), "{content}");
            assert!(!content.contains(&token), "the file shows the token");
        }
    }
}
