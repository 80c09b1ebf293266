"""The web servers of `tagmask serve` and `tagmask review`.

    request -> guards (address, password or session, size) -> a router -> worker threads

`server` makes one application of any routers. For Label Studio, `label_studio` has the routes. For the review
page, `review_app` puts together a run (`reviewed_run`, `gallery`), its photos, redraws (`live`), jobs and the
files of the page.
"""
