"""Text in, token ids out: corpora, tokenizers, the token store, loaders.

This tower knows no model. It meets the models through two integers, ``vocab_size``
and ``context_length``.
"""
