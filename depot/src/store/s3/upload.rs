//! Creating an object in a bucket: at once, or in parts if it is large.
//!
//! Whatever happens, the object appears whole or not at all. Parts of an upload that was given up
//! are aborted; if even that fails, they are invisible but may cost money until the bucket's
//! lifecycle rule removes them.

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart};

use super::super::input::Input;
use super::super::{Body, OBJECT_BYTES_MAX};
use super::failure::failure;
use super::{S3Store, StoreError};

/// Bodies above this are sent in parts: what one request holds in memory.
const SINGLE_BYTES_MAX: u64 = OBJECT_BYTES_MAX;
const PART_BYTES_MIN: u64 = 16 << 20;
/// S3 takes no more parts.
const PARTS_MAX: u64 = 10_000;
const NEW_ONLY: &str = "*";

impl S3Store {
    pub(in super::super) fn create(&self, name: &str, body: Body<'_>) -> Result<(), StoreError> {
        let input = Input::open(body)?;
        let created = if input.size() <= SINGLE_BYTES_MAX {
            self.create_at_once(name, input)
        } else {
            self.create_in_parts(name, input)
        };
        match created {
            // 412 is certain. 409 is not: the other writer may still fail, and then the name is
            // free.
            Err(StoreError::Exists { .. }) if self.stat(name)?.is_none() => {
                let what = format!("create `{name}`: another writer is at it");
                Err(StoreError::Unreachable { what, source: None })
            }
            other => other,
        }
    }

    fn create_at_once(&self, name: &str, input: Input<'_>) -> Result<(), StoreError> {
        let operation = self.operation("create", name);
        let bytes = input.rest()?;
        let size = bytes.len();
        self.limit.take(size);
        self.run(&operation, size as u64, async {
            let request = self.client.put_object().bucket(&self.bucket).key(self.key(name));
            request
                .if_none_match(NEW_ONLY)
                .checksum_algorithm(ChecksumAlgorithm::Sha256)
                .content_length(size as i64)
                .body(ByteStream::from(bytes))
                .send()
                .await
                .map_err(|error| failure(&operation, error))
        })
        .map(drop)
    }

    fn create_in_parts(&self, name: &str, input: Input<'_>) -> Result<(), StoreError> {
        // Only to spare the upload: the completion decides.
        if self.stat(name)?.is_some() {
            return Err(StoreError::exists(name));
        }
        let upload = self.start(name)?;
        let outcome = self
            .send_parts(name, &upload, input)
            .and_then(|parts| self.complete(name, &upload, parts));
        if outcome.is_err() {
            // The first error is the one that counts.
            drop(self.abort(name, &upload));
        }
        outcome
    }

    fn start(&self, name: &str) -> Result<String, StoreError> {
        let operation = self.operation("start the upload of", name);
        let started = self.run(&operation, 0, async {
            let client = &self.client;
            let request = client.create_multipart_upload().bucket(&self.bucket).key(self.key(name));
            let request = request.checksum_algorithm(ChecksumAlgorithm::Sha256);
            request.send().await.map_err(|error| failure(&operation, error))
        })?;
        started.upload_id.ok_or_else(|| StoreError::other(format!("{}: no id", operation.what())))
    }

    fn send_parts(
        &self,
        name: &str,
        upload: &str,
        mut input: Input<'_>,
    ) -> Result<Vec<CompletedPart>, StoreError> {
        let part_bytes = part_bytes(input.size());
        let mut parts = Vec::new();
        loop {
            let bytes = input.next(part_bytes)?.to_vec();
            if bytes.is_empty() {
                return Ok(parts);
            }
            self.limit.take(bytes.len());
            parts.push(self.send_part(name, upload, parts.len() as i32 + 1, bytes)?);
        }
    }

    fn send_part(
        &self,
        name: &str,
        upload: &str,
        number: i32,
        bytes: Vec<u8>,
    ) -> Result<CompletedPart, StoreError> {
        let operation = self.operation("create", name);
        let size = bytes.len();
        let sent = self.run(&operation, size as u64, async {
            let request = self.client.upload_part().bucket(&self.bucket).key(self.key(name));
            request
                .upload_id(upload)
                .part_number(number)
                .checksum_algorithm(ChecksumAlgorithm::Sha256)
                .content_length(size as i64)
                .body(ByteStream::from(bytes))
                .send()
                .await
                .map_err(|error| failure(&operation, error))
        })?;
        Ok(CompletedPart::builder()
            .part_number(number)
            .set_e_tag(sent.e_tag)
            .set_checksum_sha256(sent.checksum_sha256)
            .build())
    }

    fn complete(
        &self,
        name: &str,
        upload: &str,
        parts: Vec<CompletedPart>,
    ) -> Result<(), StoreError> {
        let operation = self.operation("complete the upload of", name);
        // The service may copy the parts together before it answers.
        let bytes = parts.len() as u64 * PART_BYTES_MIN;
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        self.run(&operation, bytes, async {
            let client = &self.client;
            let request =
                client.complete_multipart_upload().bucket(&self.bucket).key(self.key(name));
            request
                .upload_id(upload)
                .multipart_upload(parts)
                .if_none_match(NEW_ONLY)
                .send()
                .await
                .map_err(|error| failure(&operation, error))
        })
        .map(drop)
    }

    fn abort(&self, name: &str, upload: &str) -> Result<(), StoreError> {
        let operation = self.operation("abort the upload of", name);
        self.run(&operation, 0, async {
            let client = &self.client;
            let request = client.abort_multipart_upload().bucket(&self.bucket).key(self.key(name));
            request.upload_id(upload).send().await.map_err(|error| failure(&operation, error))
        })
        .map(drop)
    }
}

/// The least size with which the body fits into the parts allowed.
fn part_bytes(size: u64) -> usize {
    let least = size.div_ceil(PARTS_MAX);
    least.max(PART_BYTES_MIN) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_body_takes_more_parts_than_allowed() {
        assert_eq!(part_bytes(70 << 20), 16 << 20);
        let terabyte = 1u64 << 40;
        assert!(terabyte.div_ceil(part_bytes(terabyte) as u64) <= PARTS_MAX);
    }
}
