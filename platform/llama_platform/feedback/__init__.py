"""What users say of answers, and the conversations that they say it of."""
