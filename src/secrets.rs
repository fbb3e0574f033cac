//! Placeholder until the shelf's file arrives.

/// A fresh id for one refusal.
pub fn request_id() -> String {
    const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut random = [0_u8; 22];
    let _ = aws_lc_rs::rand::fill(&mut random);
    let mut id = String::from("req_");
    id.extend(random.iter().filter_map(|byte| ALPHABET.get(usize::from(byte % 62))).map(|byte| char::from(*byte)));
    id
}
