"""A trained convolutional network made smaller, as a value passed from stage to stage.

Importing this package loads numpy only; torch is loaded by the modules that need it.
"""
