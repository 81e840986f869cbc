"""The specification of a search: space, budget and resources, their validation, and the manifest that stores them."""
