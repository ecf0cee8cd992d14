"""Storages of files: the server's file system, S3, SFTP and HTTP."""
