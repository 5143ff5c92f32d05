"""The report of a prepared dataset: its values, and the page that shows them."""
