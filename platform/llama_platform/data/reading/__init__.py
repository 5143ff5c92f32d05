"""Reading chats: sources on disk and in S3, their formats, their records."""
