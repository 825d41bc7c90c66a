//! A token command for the conformance suite: reads claims as JSON and prints them as a token by HS256, under the secret in a file:
//! `conformance --token-command 'sign_claims FILE'`.

use std::process::ExitCode;

use serde_json::Value;
use trunkline_tests::conformance::token::signed;

fn main() -> ExitCode {
    match token() {
        Ok(token) => {
            println!("{token}");
            ExitCode::SUCCESS
        }
        Err(problem) => {
            eprintln!("sign_claims: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn token() -> Result<String, String> {
    let file = std::env::args().nth(1).ok_or("usage: sign_claims FILE")?;
    let secret = std::fs::read(&file).map_err(|error| format!("{file}: {error}"))?;
    let claims: Value = serde_json::from_reader(std::io::stdin()).map_err(|error| error.to_string())?;
    Ok(signed(secret.trim_ascii_end(), &claims))
}
