"""Toy cars: the embedded data set, and rules that read attributes from its pictures."""
