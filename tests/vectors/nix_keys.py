"""Keys and signatures: section 10 of the project's vectors-nix.md. Throw-away keys; never trust them anywhere."""

KEYS: list[tuple[str, str]] = [
    (
        "spec.example.org-1:TABQd15azSjsiIhddC9q9iA0gAjtjGiScWNQc7xjMC5IWb61V1vdeylYLWVKR5X0VYjQ38Qi0eLMGG6jdF6ALg==",
        "spec.example.org-1:SFm+tVdb3XspWC1lSkeV9FWI0N/EItHizBhuo3RegC4=",
    ),
    (
        "test_under.score-2:SKv51nbZJ+VNKWaYfCHC+hGjc7nTdZX85Jt9LtPHWGMu3gz3FiD1iv0clhzoq7Hqs4uNNByP3edm4xHENoYRmA==",
        "test_under.score-2:Lt4M9xYg9Yr9HJYc6Kux6rOLjTQcj93nZuMRxDaGEZg=",
    ),
    (
        "cache.example.com-1:cCta2MEsRNuYCgWYyeRXLyfoFpKhQJKn8gLMeXWAb7vIpRKKo/3JoxJ24OYa3DxT2JVV38KjK/1ywHWuMe2JEw==",
        "cache.example.com-1:yKUSiqP9yaMSduDmGtw8U9iVVd/Coyv9csB1rjHtiRM=",
    ),
    (
        "do.not.use:sGPzxuK5WvWPraytx+6sjtaff866sYlfvErE6x0hFEhy5eqe7OVZ8ZMqZ/ME/HaRdKGNGvJkyGKXYTaeA6lR3A==",
        "do.not.use:cuXqnuzlWfGTKmfzBPx2kXShjRryZMhil2E2ngOpUdw=",
    ),
]
"""Secret key and public key; the first two were made by `nix-store --generate-binary-cache-key`."""

FINGERPRINT = "1;/nix/store/0vpqfxbkx0ffrnhbws6g9qwhmliksz7f-perl-HTTP-Cookies-6.01;sha256:0h1bm4sj1cnfkxgyhvgi8df1qavnnv94sd0v09wcrm971602shfg;22552;"

SIGNATURES: list[str] = [
    "cache.example.com-1:s0RTa24/7x5lstmy93KSUW/rD0LR8M0VqMd1t2otpglPhPtJerWS8UNGn+xRRSMOfo/5Kc7gy+mPSW++e4twAg==",
    "do.not.use:Q+rqO3J6Kxa79MG6RV8TDjLaaXXOyUzrDveTglKjLYXr+pLWQBnENe5ug3QD4NgF0BqzJDU1zJERkFKyY3BcDQ==",
    "spec.example.org-1:+BkngjzSh/DgbhKZHRks1vFOOhfKmbIG7WSpeEZoiDDRnfgVi9IFSwpMdMbA6wKvaUYv9p150uexqNwKZlgXBA==",
    "test_under.score-2:+3mXBVHyeXuYOHJ/dQSObhZU8ycA7ZxYbHa6J/spRXseO60u6oPSFuWwDiYilvCANfta8OWFAHiIjBDPTgBxAg==",
]
"""Of the fingerprint, one by each key."""

REJECTED_PUBLIC_KEYS: list[str] = [
    "spec.example.org-1",
    "SFm+tVdb3XspWC1lSkeV9FWI0N/EItHizBhuo3RegC4=",
    ":SFm+tVdb3XspWC1lSkeV9FWI0N/EItHizBhuo3RegC4=",
    "spec.example.org-1:",
    "spec.example.org-1:SFm+tVdb3XspWC1lSkeV9FWI0N/EItHizBhuo3RegA==",
    "spec.example.org-1:SFm+tVdb3XspWC1lSkeV9FWI0N/EItHizBhuo3RegC4A",
    "spec.example.org-1:SFm-tVdb3XspWC1lSkeV9FWI0N_EItHizBhuo3RegC4=",
    "spec.example.org-1:SFm+tVdb3XspWC1lSkeV9FWI0N/EItHizBhuo3RegC4",
]

REJECTED_SECRET_KEYS: list[str] = [
    "spec.example.org-1",
    "TABQd15azSjsiIhddC9q9iA0gAjtjGiScWNQc7xjMC5IWb61V1vdeylYLWVKR5X0VYjQ38Qi0eLMGG6jdF6ALg==",
    ":TABQd15azSjsiIhddC9q9iA0gAjtjGiScWNQc7xjMC5IWb61V1vdeylYLWVKR5X0VYjQ38Qi0eLMGG6jdF6ALg==",
    "spec.example.org-1:",
    "spec.example.org-1:TABQd15azSjsiIhddC9q9iA0gAjtjGiScWNQc7xjMC4=",
    "spec.example.org-1:TABQd15azSjsiIhddC9q9iA0gAjtjGiScWNQc7xjMC5IWb61V1vdeylYLWVKR5X0VYjQ38Qi0eLMGG6jdF6A",
    "spec.example.org-1:TABQd15azSjsiIhddC9q9iA0gAjtjGiScWNQc7xjMC4u3gz3FiD1iv0clhzoq7Hqs4uNNByP3edm4xHENoYRmA==",
    "cache.example.com-1:cCta2MEsRNuYCgWYyeRXLyfoFpKhQJKn8gLMeXWAb7vIpRKKo_3JoxJ24OYa3DxT2JVV38KjK_1ywHWuMe2JEw==",
    "spec.example.org-1:TABQd15azSjsiIhddC9q9iA0gAjtjGiScWNQc7xjMC5IWb61V1vdeylYLWVKR5X0VYjQ38Qi0eLMGG6jdF6ALg",
]
