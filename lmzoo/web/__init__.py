"""A local page: trained models to be tried by hand.

``handlers`` answers, in plain functions from text to HTML; ``page`` lays out (Gradio);
``guard`` decides which requests get that far; ``server`` listens.
"""
