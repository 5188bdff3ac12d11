"""The console: pages for people, served by `python -m worker web`.

`app` puts it together; `roles` is the one place where it is decided who may see and do what; `security` is
what every request and every reply goes through. Each page is a small file in `pages` with a template of its
name. Whatever comes from outside is only ever text: templates escape, and `texts` makes visible what hides.
"""
