"""The job config: schema, loading, dates."""
