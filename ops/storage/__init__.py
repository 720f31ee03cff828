"""Where backups are kept: a folder of this machine, or a bucket. `ops/storage` alone imports boto3."""
