"""What is asked of a search: the space, the budget, the resources, and the validation of all of them."""
