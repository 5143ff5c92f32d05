"""Makes again what the package ships: the tiny base and the sample chats. Nobody needs it to use the platform."""
