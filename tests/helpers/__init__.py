"""Factories, fakes and servers that several tests share."""
