"""Pages and panels for notebooks and Voila: each reads plain data of the library and calls one function of it."""
