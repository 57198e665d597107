"""Input and output on local disk, S3 and other filesystems. Never imports Ray."""
