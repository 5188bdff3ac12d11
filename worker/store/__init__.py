"""All SQL of the service, under the names of what it does.

Every function takes a `Transaction`: a connection and the moment its transaction began, by the
database's clock. Nothing here decides; it reads and writes what it is told.
"""
