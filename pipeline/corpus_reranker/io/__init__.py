"""Reading candidates, writing results: Parquet on local disk, S3, or whatever fsspec knows. Never imports ray."""
