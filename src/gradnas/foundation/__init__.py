"""The basement of the house: names, files and seeds. Every other room may use it; it uses none.

Import from the files, not from here: ``names`` and ``files`` need the standard library only, ``seeds`` needs torch.
"""
