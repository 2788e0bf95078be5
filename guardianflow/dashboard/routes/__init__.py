"""The routes of the API: each translates, calls one function of the library, and translates back."""
