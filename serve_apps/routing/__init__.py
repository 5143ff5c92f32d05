"""Which versions answer: followed in the store, held by replicas, published to the ingress."""
