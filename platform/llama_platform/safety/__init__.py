"""What must not be read or written: personal data, and rules of an organisation."""
