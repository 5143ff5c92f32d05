"""Who may ask: keys of clients, what each may do, and the document in the store that holds them."""
