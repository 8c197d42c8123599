"""Types that pipelines are written in."""
