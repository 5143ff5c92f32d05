"""Documents: from files of many formats to texts that can be cut into chunks."""
