"""The basement of the house: names, texts, files and seeds. Every other room may use it; it uses none.

Import from the files, not from here: ``names``, ``plain_text`` and ``files`` need the standard library only, ``seeds``
needs torch.
"""
